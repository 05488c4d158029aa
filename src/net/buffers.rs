//! Receive buffers in a ring that is registered with the kernel. The kernel chooses a buffer when bytes arrive.
//!
//! Invariant: each buffer belongs either to the kernel's ring or to one [`ReceivedBuffer`]. Idle connections hold none.

use io_uring::{Submitter, types::BufRingEntry};
use std::cell::Cell;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

/// Buffers per shard; a power of two.
const COUNT: usize = 256;
/// Bytes per buffer.
const SIZE: usize = 4_096;
/// The buffer group's id within the shard's ring.
pub(super) const GROUP: u16 = 1;

/// The buffers of one shard.
pub(super) struct BufferPool {
    /// `COUNT` entries, page aligned, shared with the kernel.
    entries: NonNull<BufRingEntry>,
    /// `COUNT * SIZE` bytes.
    memory: NonNull<u8>,
    tail: Cell<u16>,
}

const ENTRIES_BYTES: usize = COUNT * std::mem::size_of::<BufRingEntry>();
const MEMORY_BYTES: usize = COUNT * SIZE;

fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no existing memory.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(address.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))
}

impl BufferPool {
    /// Maps the memory and registers it with the ring.
    pub(super) fn register(submitter: &Submitter<'_>) -> io::Result<Rc<Self>> {
        let pool = Self { entries: map(ENTRIES_BYTES)?.cast(), memory: map(MEMORY_BYTES)?, tail: Cell::new(0) };
        // SAFETY: the entries are COUNT entries long, page aligned, and outlive the ring: `Sockets` drops its ring
        // before its last reference to the pool.
        unsafe {
            submitter.register_buf_ring_with_flags(pool.entries.as_ptr() as u64, COUNT as u16, GROUP, 0)?;
        }
        for buffer in 0..COUNT as u16 {
            pool.recycle(buffer);
        }
        Ok(Rc::new(pool))
    }

    /// The buffer of a completion, with the `len` bytes that the kernel wrote.
    ///
    /// Call it once per completion, because the result is the only owner of the buffer.
    pub(super) fn received(self: &Rc<Self>, buffer: u16, len: usize) -> Option<ReceivedBuffer> {
        (usize::from(buffer) < COUNT && len <= SIZE).then(|| ReceivedBuffer { pool: Rc::clone(self), buffer, len })
    }

    fn recycle(&self, buffer: u16) {
        let tail = self.tail.get();
        // SAFETY: the index is below COUNT; the kernel reads only entries before the published tail, and this one
        // lies beyond it; the address is inside `memory`. The tail shares the first entry's reserved bytes by the
        // ABI, which `set_*` do not touch; `BufRingEntry::tail` gives its address.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(usize::from(tail) % COUNT);
            entry.set_addr(self.memory.as_ptr().add(usize::from(buffer) * SIZE) as u64);
            entry.set_len(SIZE as u32);
            entry.set_bid(buffer);
            let published = BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>();
            (*published).store(tail.wrapping_add(1), Ordering::Release);
        }
        self.tail.set(tail.wrapping_add(1));
    }
}

impl Drop for BufferPool {
    fn drop(&mut self) {
        // SAFETY: `map` made both mappings with these lengths, and no reference to them remains.
        unsafe {
            libc::munmap(self.entries.as_ptr().cast(), ENTRIES_BYTES);
            libc::munmap(self.memory.as_ptr().cast(), MEMORY_BYTES);
        }
    }
}

/// Received bytes, in place. Dropping it returns the buffer to the kernel.
pub struct ReceivedBuffer {
    pool: Rc<BufferPool>,
    buffer: u16,
    len: usize,
}

impl ReceivedBuffer {
    fn start(&self) -> *mut u8 {
        // SAFETY: `buffer` < COUNT, checked when it was made.
        unsafe { self.pool.memory.as_ptr().add(usize::from(self.buffer) * SIZE) }
    }
}

impl Deref for ReceivedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: only this value accesses the buffer until it is dropped, and `len` ≤ SIZE bytes of it were written.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }
}

impl DerefMut for ReceivedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len) }
    }
}

impl Drop for ReceivedBuffer {
    fn drop(&mut self) {
        self.pool.recycle(self.buffer);
    }
}

impl std::fmt::Debug for ReceivedBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} received bytes", self.len)
    }
}
