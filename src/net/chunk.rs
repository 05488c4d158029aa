//! Outgoing bytes: a shared reference to a buffer, 16 bytes in the queue of a connection.
//!
//! Invariant: while a clone lives, the bytes stay at their address and do not change. The kernel reads them after
//! [`Sockets`](super::Sockets) has submitted their address; otherwise it would send freed or foreign memory. Therefore
//! only a closed list of types can own a chunk. A type of another crate could return other bytes at each call.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

/// Immutable bytes with shared ownership inside one shard. The owner is a `Vec<u8>` or `String` (a reply for one
/// connection), or an `Arc<[u8]>` of an event that other shards send too. The atomic count changes once per shard, not
/// once per receiver.
///
/// Nothing else can own a chunk:
/// ```compile_fail,E0277
/// struct Restless(std::cell::Cell<&'static [u8]>);
/// impl AsRef<[u8]> for Restless {
///     fn as_ref(&self) -> &[u8] {
///         self.0.replace(b"other bytes")
///     }
/// }
/// chat_server::net::Chunk::new(Restless(std::cell::Cell::new(b"bytes")));
/// ```
#[derive(Clone)]
pub struct Chunk(Rc<dyn sealed::Owner>);

impl Chunk {
    /// Takes ownership of `bytes`; clones share it.
    pub fn new(bytes: impl sealed::Owner) -> Self {
        Self(Rc::new(bytes))
    }

    /// The bytes; their address does not change while any clone lives.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes().len())
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl From<Vec<u8>> for Chunk {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl From<Arc<[u8]>> for Chunk {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self::new(bytes)
    }
}

mod sealed {
    use std::sync::Arc;

    /// An owner whose bytes are on the heap, do not move with it, and cannot change through a shared reference.
    pub trait Owner: 'static {
        /// Returns the same bytes at the same address at every call.
        fn bytes(&self) -> &[u8];
    }

    impl Owner for Vec<u8> {
        fn bytes(&self) -> &[u8] {
            self
        }
    }

    impl Owner for String {
        fn bytes(&self) -> &[u8] {
            self.as_bytes()
        }
    }

    impl Owner for Arc<[u8]> {
        fn bytes(&self) -> &[u8] {
            self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_stays_while_chunks_move_and_are_cloned() {
        let event: Arc<[u8]> = Arc::from(&b"event"[..]);
        for chunk in [Chunk::new(b"reply".to_vec()), Chunk::new("head".to_owned()), Chunk::new(event)] {
            let address = chunk.bytes().as_ptr();
            let clone = chunk.clone();
            let moved = Box::new(chunk);
            assert_eq!((moved.bytes().as_ptr(), clone.bytes().as_ptr()), (address, address));
            drop(moved);
            assert_eq!(clone.bytes().as_ptr(), address);
        }
    }
}
