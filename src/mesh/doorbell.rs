//! Waking a core that sleeps, and only then.
//!
//! Protocol (both sides): the sleeper sets the flag, checks its queues once more, and waits. The caller pushes, then
//! checks the flag. With a full fence between the two steps on each side, one of the two always sees the other; without
//! it a message could wait in a queue of a core that waits for a message.

use nix::sys::eventfd::{EfdFlags, EventFd};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// An eventfd with a "sleeping" flag. Any thread may ring it; one thread waits on it.
pub struct Doorbell {
    eventfd: File,
    sleeping: AtomicBool,
}

impl Doorbell {
    /// A bell whose owner reads it through `io_uring`.
    ///
    /// # Errors
    /// The system's error when no descriptor is left.
    pub fn for_ring() -> io::Result<Self> {
        Self::with(EfdFlags::EFD_CLOEXEC)
    }

    /// A bell whose owner waits with epoll and reads without blocking.
    ///
    /// # Errors
    /// The system's error when no descriptor is left.
    pub fn for_epoll() -> io::Result<Self> {
        Self::with(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
    }

    fn with(flags: EfdFlags) -> io::Result<Self> {
        let eventfd: OwnedFd = EventFd::from_flags(flags)?.into();
        Ok(Self { eventfd: eventfd.into(), sleeping: AtomicBool::new(false) })
    }

    /// Wakes the owner if its flag says that it sleeps. Call it after the push.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed) {
            // The counter cannot overflow: only the one that cleared the flag writes.
            let _ = (&self.eventfd).write(&1u64.to_ne_bytes());
        }
    }

    /// The owner sets the flag before it waits. It must check its queues once more after that.
    pub fn about_to_sleep(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The owner works again.
    pub fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// A duplicate of the descriptor for a waiter that must own it.
    ///
    /// # Errors
    /// The system's error when no descriptor is left.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        self.eventfd.as_fd().try_clone_to_owned()
    }
}
