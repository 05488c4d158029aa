//! Bytes on their way out: a reference to somebody's buffer, 16 bytes in a connection's queue.
//!
//! Invariant: while a clone lives, the bytes stay at their address and do not change. The kernel reads them after
//! [`Sockets`](super::Sockets) has handed their address over, and would otherwise send freed or foreign memory. The types
//! that can own a chunk are therefore a closed list; a type of another crate could answer each call with other bytes.

use std::fmt;
use std::rc::Rc;

/// Immutable bytes with shared ownership inside one shard. The owner is a `Vec<u8>` or `String` (a reply for one connection)
/// or an `Arc<[u8]>` of an event that other shards send too: the atomic count is touched once per shard, not per receiver.
///
/// Nothing else can own a chunk:
/// ```compile_fail
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

mod sealed {
    use std::sync::Arc;

    /// Keeps its bytes on the heap, where they stay when the owner moves, and has no way to change them through a shared
    /// reference.
    pub trait Owner: 'static {
        /// Always the same bytes at the same address.
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
    use std::sync::Arc;

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
