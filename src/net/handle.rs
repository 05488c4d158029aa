//! What names a socket to the kernel: a descriptor of the process, or an entry of the ring's table.

use io_uring::{squeue, types};
use std::mem::ManuallyDrop;
use std::net::TcpStream;
use std::os::fd::{FromRawFd, RawFd};

/// What names a slot's socket in an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Handle {
    /// There is none.
    None,
    /// A descriptor of the process, which the slot owns.
    Descriptor(RawFd),
    /// An entry of the ring's own table (`table`).
    Direct(u32),
}

impl Handle {
    /// The number for an operation, whose entry must also have [`Self::flags`].
    pub(super) fn number(self) -> types::Fd {
        types::Fd(match self {
            Self::None => -1,
            Self::Descriptor(fd) => fd,
            Self::Direct(entry) => entry as RawFd,
        })
    }

    /// How the kernel reads that number.
    pub(super) fn flags(self) -> squeue::Flags {
        if matches!(self, Self::Direct(_)) { squeue::Flags::FIXED_FILE } else { squeue::Flags::empty() }
    }

    /// The socket, borrowed, if it is a descriptor of the process.
    pub(super) fn stream(self) -> Option<ManuallyDrop<TcpStream>> {
        let Self::Descriptor(fd) = self else { return None };
        // SAFETY: the slot owns the descriptor and closes it only when it forgets this handle; ManuallyDrop keeps the
        // temporary stream from closing it.
        Some(ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(fd) }))
    }
}
