//! The ring's own table of sockets: direct descriptors (`io_uring_register_files(3)`).
//!
//! A socket in the table takes no descriptor of the process. So a server whose limit on open files is too small for
//! `limits.max_connections` still holds as many WebSockets as the tables of its shards have entries. Each table has as
//! many as the process may open files, at most.
//!
//! Invariants:
//! - the entry of a connection has the number of its slot, so that no list of free entries is needed;
//! - an entry is emptied only when the kernel has completed every operation that names it. A later connection may have
//!   the same number.
//!
//! Kernels before 6.13 release a socket only when the operations that were under way at its removal have ended, those
//! of other sockets among them. An idle client's receive never ends, so these kernels get no table (`boot::topology`).

use io_uring::IoUring;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads that the kernel may start for a shard, of each of its two kinds.
const WORKERS_MAX: u32 = 2;

/// The table of one shard. The default has no entries.
#[derive(Default)]
pub struct DirectTable {
    /// Its entries.
    pub entries: u32,
    /// Sockets in the tables of all shards.
    pub held: Arc<AtomicUsize>,
}

impl DirectTable {
    /// Gives the ring its table.
    pub(super) fn register(&self, ring: &IoUring) -> io::Result<()> {
        if self.entries == 0 {
            return Ok(());
        }
        let submitter = ring.submitter();
        submitter.register_files_sparse(self.entries)?;
        // They shut down the sending halves of connections. Thousands may end at once.
        submitter.register_iowq_max_workers(&mut [WORKERS_MAX; 2])
    }

    /// Whether there is an entry of this number.
    pub(super) fn has(&self, entry: u32) -> bool {
        entry < self.entries
    }

    /// Fills an entry with the socket of a descriptor, which the caller closes.
    pub(super) fn fill(&self, ring: &IoUring, entry: u32, fd: RawFd) -> io::Result<()> {
        ring.submitter().register_files_update(entry, &[fd])?;
        self.held.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Empties an entry, which closes its socket. [`Self::forget`] counts it.
    pub(super) fn empty(ring: &IoUring, entry: u32) -> io::Result<()> {
        ring.submitter().register_files_update(entry, &[-1]).map(drop)
    }

    /// So many emptied entries do not count any more. Later than their connections: otherwise the difference of both,
    /// the descriptors in use, would be too large for a moment, and new connections would be refused.
    pub(super) fn forget(&self, emptied: usize) {
        self.held.fetch_sub(emptied, Ordering::Relaxed);
    }
}
