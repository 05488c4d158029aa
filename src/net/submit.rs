//! Submissions to the ring: the identities of operations, and the vectored send.

use super::chunk::Chunk;
use super::handle::Handle;
use crate::ids::ConnId;
use io_uring::{opcode, squeue::Entry};
use std::collections::VecDeque;

/// Chunks in one vectored send.
pub(super) const IOVECS_MAX: usize = 128;

/// The kind of operation, in the top byte of `user_data`. Below it are the connection's generation and slot as in
/// [`ConnId`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Operation {
    Accept = 1,
    Receive = 2,
    Send = 3,
    Tick = 4,
    Cancel = 5,
    Doorbell = 6,
    /// Shuts down the sending half of a socket of the ring's table.
    End = 7,
}

impl Operation {
    pub(super) fn user_data(self, generation: u32, slot: u32) -> u64 {
        (self as u64) << 56 | u64::from(generation & 0x00ff_ffff) << 32 | u64::from(slot)
    }

    pub(super) fn of(user_data: u64) -> Option<Self> {
        Some(match user_data >> 56 {
            1 => Self::Accept,
            2 => Self::Receive,
            3 => Self::Send,
            4 => Self::Tick,
            5 => Self::Cancel,
            6 => Self::Doorbell,
            7 => Self::End,
            _ => return None,
        })
    }
}

/// The slot and generation in the `user_data` of a completion.
pub(super) fn target(user_data: u64) -> (u32, u32) {
    (user_data as u32, (user_data >> 32) as u32 & 0x00ff_ffff)
}

/// The part of a connection's id that fits into `user_data`.
pub(super) fn key(conn: ConnId) -> (u32, u32) {
    (conn.generation(), conn.slot())
}

/// Memory of one vectored send; boxed, because the kernel uses its address until the completion.
pub(super) struct VectoredSend {
    header: libc::msghdr,
    vectors: [libc::iovec; IOVECS_MAX],
}

impl VectoredSend {
    pub(super) fn boxed() -> Box<Self> {
        // SAFETY: msghdr and iovec are plain C structs for which all-zero is valid (null pointers, zero lengths).
        unsafe { Box::new(std::mem::zeroed()) }
    }

    /// The entry that sends the front of `queue` without the first `offset` bytes of its first chunk.
    ///
    /// The caller must keep these chunks and this box at their addresses until the completion.
    pub(super) fn prepare(&mut self, handle: Handle, queue: &VecDeque<Chunk>, offset: usize) -> Entry {
        let mut count = 0;
        for (vector, chunk) in self.vectors.iter_mut().zip(queue) {
            let bytes = chunk.bytes();
            let bytes = if count == 0 { bytes.get(offset..).unwrap_or_default() } else { bytes };
            vector.iov_base = bytes.as_ptr().cast_mut().cast();
            vector.iov_len = bytes.len();
            count += 1;
        }
        self.header.msg_iov = self.vectors.as_mut_ptr();
        self.header.msg_iovlen = count;
        opcode::SendMsg::new(handle.number(), &raw const self.header).flags(libc::MSG_NOSIGNAL as u32).build()
    }
}
