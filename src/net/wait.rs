//! How a shard's task sleeps: it reads the eventfd that the ring, and other threads, write when there is work.
//!
//! The read goes through the executor's own ring, so the executor parks instead of polling. The eventfd counts: what
//! is written between the last turn and the read makes the read return at once, and no wake-up is lost.

use glommio::io::BufferedFile;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

/// A shard's end of its eventfd.
pub struct Wait(BufferedFile);

impl Wait {
    /// Takes the shard's own duplicate of the eventfd. Must be called inside the shard's executor.
    pub fn new(eventfd: OwnedFd) -> Self {
        // SAFETY: the descriptor is owned and given up here; the file closes it.
        Self(unsafe { BufferedFile::from_raw_fd(eventfd.into_raw_fd()) })
    }

    /// Sleeps until the eventfd was written, and takes its count.
    ///
    /// # Errors
    /// The executor's error; the shard cannot go on then.
    pub async fn wait(&self) -> io::Result<()> {
        self.0.read_at(0, 8).await.map(drop).map_err(io::Error::from)
    }
}
