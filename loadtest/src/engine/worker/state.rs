//! What a worker holds: its connections, its share of the plan, and the limits of its loop.

use crate::engine::channel::{Clock, Control, WorkerReport};
use crate::engine::connection::{Connection, ConnectionPhase};
use crate::engine::options::EngineOptions;
use crate::engine::recorder::Recorder;
use crate::engine::schedule::Schedule;
use crate::engine::timer::{Agenda, Timer};
use crate::engine::websocket::Inflater;
use crate::protocol::Protocol;
use mio::Poll;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, SyncSender};

/// The main thread has sent a command.
pub(in crate::engine) const WAKER: mio::Token = mio::Token(usize::MAX - 1);
pub(super) const TIMER: mio::Token = mio::Token(usize::MAX - 2);
/// Bytes per read.
pub(super) const BUFFER_BYTES: usize = 256 * 1024;
/// A connection with more unwritten bytes than this gets no further frames.
pub(super) const UNWRITTEN_MAX: usize = 64 * 1024;
/// Interval of work that is not urgent.
pub(super) const TICK_NS: u64 = 10_000_000;
/// Interval of the reports to the checkers while draining.
pub(super) const SYNC_NS: u64 = 50_000_000;
/// First backoff before a reconnection.
pub(super) const RETRY_NS: u64 = 50_000_000;
/// Longest backoff between two attempts.
pub(super) const RETRY_NS_MAX: u64 = 2_000_000_000;
/// Longest wait for a connection to become ready.
pub(super) const OPEN_NS: u64 = 20_000_000_000;
pub(super) const SECOND_NS: u64 = 1_000_000_000;
/// The server's close code for a reader that is too slow.
pub(super) const TOO_SLOW: u16 = 4003;

/// The place of a worker among the others.
#[derive(Debug)]
pub(in crate::engine) struct WorkerPlace {
    pub(in crate::engine) number: usize,
    pub(in crate::engine) clock: Clock,
    pub(in crate::engine) controls: Receiver<Control>,
    pub(in crate::engine) events: SyncSender<WorkerReport>,
    pub(in crate::engine) pending: Arc<AtomicU64>,
}

/// A connection with the loop's own state of it.
pub(super) struct Slot<S> {
    pub(super) connection: Connection<S>,
    pub(super) cut: bool,
    pub(super) was_ready: bool,
    pub(super) attempt: u32,
    pub(super) pause_ns: u64,
    pub(super) retry_after_ms: Option<u64>,
    /// Its credentials were refused last time.
    pub(super) refused: bool,
    /// Rooms it sends to in a closed loop, in turn.
    pub(super) closed: Vec<u32>,
    pub(super) closed_next: usize,
    pub(super) held_until_ns: u64,
    /// It does not read.
    pub(super) paused: bool,
    /// Why it is behind, and since when.
    pub(super) behind: Option<(&'static str, u64)>,
}

impl<S: Send> Slot<S> {
    /// What a lost connection has not regained; `None` for one that has caught up or was never ready.
    pub(super) fn missing<P: Protocol<State = S>>(&self, protocol: &P) -> Option<&'static str> {
        match self.connection.phase {
            _ if !self.was_ready => None,
            ConnectionPhase::Ready if !self.connection.peer.reopened || protocol.caught_up(&self.connection.peer) => {
                None
            }
            ConnectionPhase::Ready => Some("had caught up"),
            _ => Some("was connected again"),
        }
    }
}

/// The stage of the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RunStage {
    Connecting,
    Sending,
    Draining,
    Over,
}

/// One engine thread.
pub(in crate::engine) struct Worker<P: Protocol> {
    pub(super) poll: Poll,
    pub(super) timer: Timer,
    pub(super) protocol: P,
    pub(super) options: Arc<EngineOptions>,
    pub(super) place: WorkerPlace,
    pub(super) slots: Vec<Slot<P::State>>,
    pub(super) to_open: VecDeque<u32>,
    pub(super) buffer: Vec<u8>,
    pub(super) inflater: Inflater,
    pub(super) recorder: Recorder,
    pub(super) schedule: Schedule,
    pub(super) agenda: Agenda,
    pub(super) stage: RunStage,
    pub(super) start_ns: u64,
    pub(super) tick_ns: u64,
    pub(super) sync_ns: u64,
    /// CPU at the beginning of the current interval.
    pub(super) cpu_ns: u64,
    /// The interval's beginning.
    pub(super) interval_ns: u64,
}
