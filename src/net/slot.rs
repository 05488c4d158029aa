//! One connection's slot in the slab.
//!
//! ```text
//!   Open ──finish()──► Flushing ──queue sent, SHUT_WR──► HalfClosed ──peer's end──► Dead ──no operations──► free
//!     └──abort(), error───────────────────────────────────────────────────────────►┘
//! ```

use super::chunk::Chunk;
use super::handle::Handle;
use super::submit::VectoredSend;
use std::collections::VecDeque;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Life {
    Free,
    Open,
    Flushing,
    HalfClosed,
    Dead,
}

/// How a connection receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Receiving {
    Off,
    Once,
    Stream,
    /// Never again: what the peer sends stays in the kernel until the socket is closed.
    Refused,
}

pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) handle: Handle,
    pub(super) life: Life,
    pub(super) receiving: Receiving,
    pub(super) receive_in_kernel: bool,
    /// The kernel shuts down the sending half of a socket of the ring's table.
    pub(super) shutting: bool,
    pub(super) peer_finished: bool,
    pub(super) dirty: bool,
    /// Number of chunks at the front of `queue` that the kernel is sending.
    pub(super) sending: u16,
    /// When that send was submitted, on the wrapping clock of `Sockets`.
    pub(super) sending_since_us: u32,
    /// Bytes of the first chunk that have been sent.
    pub(super) offset: u32,
    pub(super) queued_bytes: u32,
    pub(super) vectored: Option<Box<VectoredSend>>,
    pub(super) queue: VecDeque<Chunk>,
}

impl Slot {
    /// An unused slot. `dirty` tells whether its index is still in the list of slots with output.
    pub(super) fn free(generation: u32, dirty: bool) -> Self {
        Self {
            generation,
            handle: Handle::None,
            life: Life::Free,
            receiving: Receiving::Off,
            receive_in_kernel: false,
            shutting: false,
            peer_finished: false,
            dirty,
            sending: 0,
            sending_since_us: 0,
            offset: 0,
            queued_bytes: 0,
            vectored: None,
            queue: VecDeque::new(),
        }
    }

    pub(super) fn operations(&self) -> bool {
        self.receive_in_kernel || self.sending > 0 || self.shutting
    }

    pub(super) fn all_sent_to_a_finished_peer(&self) -> bool {
        self.peer_finished && self.queue.is_empty()
    }
}
