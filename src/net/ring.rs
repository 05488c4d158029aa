//! A shard's `io_uring`, and the buffers that its sockets receive into.

use super::buffers::BufferPool;
use io_uring::IoUring;
use std::io;
use std::rc::Rc;

const SUBMISSIONS: u32 = 4_096;
const COMPLETIONS: u32 = 16_384;

/// Both, new.
pub(super) fn new_ring() -> io::Result<(IoUring, Rc<BufferPool>)> {
    let ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_cqsize(COMPLETIONS)
        .build(SUBMISSIONS)?;
    let pool = BufferPool::register(&ring.submitter())?;
    Ok((ring, pool))
}

/// Sets up a ring as a shard does, and releases it.
///
/// # Errors
/// The kernel's.
pub fn probe_ring() -> io::Result<()> {
    new_ring().map(drop)
}
