//! Bytes on their way out: a reference to somebody's buffer, 16 bytes in a connection's queue.

use std::fmt;
use std::rc::Rc;

/// Immutable bytes with shared ownership inside one shard. The owner can be a `Vec<u8>` (a reply for one connection)
/// or an `Arc` of an event that other shards send too: the atomic count is touched once per shard, not per receiver.
#[derive(Clone)]
pub struct Chunk(Rc<dyn AsRef<[u8]>>);

impl Chunk {
    /// Takes ownership of `bytes`; clones share it.
    pub fn new(bytes: impl AsRef<[u8]> + 'static) -> Self {
        Self(Rc::new(bytes))
    }

    /// The bytes; their address does not change while any clone lives, because `AsRef` of an owner that nobody can
    /// reach mutably gives the same slice each time for the owners used here (`Vec`, `String`, `Arc<[u8]>`).
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        (*self.0).as_ref()
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

impl From<std::sync::Arc<[u8]>> for Chunk {
    fn from(bytes: std::sync::Arc<[u8]>) -> Self {
        Self::new(bytes)
    }
}
