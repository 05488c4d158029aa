//! The commits of the bare loop: a loader on a thread of its own, and the messages that wait for it.
//!
//! 1. The loop holds each message that it has read ([`Committer::hold`]) and submits the rows of a turn together
//!    ([`Committer::submit`]).
//! 2. The loader commits everything that waits as one batch, at most [`BATCH_ROWS_MAX`] rows. What arrives meanwhile is
//!    the next batch.
//! 3. When PostgreSQL has answered, the loader counts the batch as committed and wakes the loop, which sends these
//!    messages ([`Committer::next_committed`]).
//!
//! Invariants:
//! - one order: rows are committed in the order in which the loop submits them. So a count is enough to release
//!   messages, and no message crosses between the threads. With several connections there is a committer for each, and
//!   a room always has the same one;
//! - the queue is bounded: the loop reads nothing more while [`HELD_MAX`] messages wait;
//! - a loader that fails ends the loop. Otherwise its clients would wait without an end.
//!
//! Deliberately absent: the content of the messages. All rows have the same text of the same length, as those of the
//! PostgreSQL floor.

use super::loader::{Loader, RoomOfLoader, SenderOfRow, StatementForm};
use super::store::runtime;
use chat_server::limits::BATCH_ROWS_MAX;
use chat_server::storage::connect::Target;
use mio::Waker;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use tokio::runtime::Runtime;

/// Most messages that wait for their commit. A single read of a socket may exceed it.
pub const HELD_MAX: usize = 65_536;

/// What the loader has committed from its start to its end, warm-up and drain included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commits {
    /// Rows.
    pub rows: u64,
    /// Statements, each with a commit of its own.
    pub statements: u64,
}

impl Commits {
    /// With those of another loader.
    pub fn plus(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, statements: self.statements + other.statements }
    }

    /// Rows of a statement.
    pub fn mean(&self) -> f64 {
        self.rows as f64 / self.statements.max(1) as f64
    }
}

/// A loader that is connected, with the runtime that its connection needs.
pub struct ReadyLoader {
    runtime: Runtime,
    loader: Loader,
}

impl ReadyLoader {
    /// Connects as often as asked. The rooms are numbered as the loop numbers them.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub fn connect(
        target: &Target,
        connections: usize,
        content_bytes: usize,
        rooms: &[RoomOfLoader],
    ) -> Result<Vec<Self>, String> {
        let one = |index| {
            let (runtime, name) = (runtime()?, format!("loop.{index}"));
            let connected = Loader::connect(target, StatementForm::Known, content_bytes, &name, rooms.to_vec());
            let loader = runtime.block_on(connected)?;
            Ok(Self { runtime, loader })
        };
        (0..connections).map(one).collect()
    }
}

/// What both threads see.
struct RowExchange {
    waiting: Mutex<WaitingRows>,
    /// Rows that PostgreSQL has committed, in the order of their submission.
    committed: AtomicU64,
    has_ended: AtomicBool,
    /// Of the loop's poll.
    waker: Arc<Waker>,
}

#[derive(Default)]
struct WaitingRows {
    rows: VecDeque<SenderOfRow>,
    is_closed: bool,
}

impl RowExchange {
    fn lock(&self) -> MutexGuard<'_, WaitingRows> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for rows and moves them into `batch`; false when there will be no more.
    fn next_batch(&self, batch: &mut Vec<SenderOfRow>) -> bool {
        batch.clear();
        loop {
            let mut waiting = self.lock();
            let count = waiting.rows.len().min(BATCH_ROWS_MAX);
            if count > 0 {
                batch.extend(waiting.rows.drain(..count));
                return true;
            }
            if waiting.is_closed {
                return false;
            }
            drop(waiting);
            // The loop unparks this thread after it has submitted rows, even if that was before this call.
            thread::park();
        }
    }

    async fn load(&self, loader: &mut Loader) -> Result<Commits, String> {
        let (mut commits, mut batch) = (Commits::default(), Vec::new());
        // Blocks the thread instead of the task: without a statement in flight there is nothing else to do on it.
        while self.next_batch(&mut batch) {
            loader.commit(&batch).await?;
            commits.rows += batch.len() as u64;
            commits.statements += 1;
            self.committed.fetch_add(batch.len() as u64, Ordering::Release);
            self.wake()?;
        }
        Ok(commits)
    }

    fn wake(&self) -> Result<(), String> {
        self.waker.wake().map_err(|error| format!("the floor's loader cannot wake the loop: {error}"))
    }
}

/// The loop's end: the messages that are held, and the thread that commits their rows.
pub struct Committer {
    exchange: Arc<RowExchange>,
    loader: Option<JoinHandle<Result<Commits, String>>>,
    /// Rows of the present turn.
    turn: Vec<SenderOfRow>,
    /// Rooms of the held messages, in the order of their rows.
    rooms: VecDeque<usize>,
    /// Their bytes, in the same order.
    bytes: VecDeque<u8>,
    message_bytes: usize,
    released: u64,
}

impl Committer {
    /// Starts the loader's thread. `waker` is of the loop's poll, and each message that is held has `message_bytes`.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(ready: ReadyLoader, message_bytes: usize, waker: Arc<Waker>) -> io::Result<Self> {
        let exchange = Arc::new(RowExchange {
            waiting: Mutex::default(),
            committed: AtomicU64::new(0),
            has_ended: AtomicBool::new(false),
            waker,
        });
        let of_thread = Arc::clone(&exchange);
        let loader = thread::Builder::new().name("loader".to_owned()).spawn(move || {
            let ReadyLoader { runtime, mut loader } = ready;
            let loaded = runtime.block_on(of_thread.load(&mut loader));
            of_thread.has_ended.store(true, Ordering::Release);
            of_thread.wake().and(loaded)
        })?;
        Ok(Self {
            exchange,
            loader: Some(loader),
            turn: Vec::new(),
            rooms: VecDeque::new(),
            bytes: VecDeque::new(),
            message_bytes,
            released: 0,
        })
    }

    /// Holds a message until its row is committed.
    pub fn hold(&mut self, sender: SenderOfRow, message: &[u8]) {
        self.turn.push(sender);
        self.rooms.push_back(sender.room);
        self.bytes.extend(&message[..self.message_bytes]);
    }

    /// Gives the loader the rows of this turn.
    pub fn submit(&mut self) {
        if !self.turn.is_empty() {
            self.exchange.lock().rows.extend(self.turn.drain(..));
            self.unpark();
        }
    }

    /// The room of the oldest message that is committed and not yet released; its bytes replace those of `message`.
    pub fn next_committed(&mut self, message: &mut Vec<u8>) -> Option<usize> {
        if self.released == self.exchange.committed.load(Ordering::Acquire) {
            return None;
        }
        self.released += 1;
        message.resize(self.message_bytes, 0);
        self.bytes.read_exact(message).ok()?;
        self.rooms.pop_front()
    }

    /// Whether the loop must wait for commits before it reads more.
    pub fn is_full(&self) -> bool {
        self.rooms.len() >= HELD_MAX
    }

    /// Whether the loader has ended. Before [`finish`](Self::finish) it has failed.
    pub fn has_ended(&self) -> bool {
        self.exchange.has_ended.load(Ordering::Acquire)
    }

    /// Waits until everything submitted is committed.
    ///
    /// # Errors
    /// Why the loader has failed.
    pub fn finish(mut self) -> Result<Commits, String> {
        self.close();
        match self.loader.take().map(JoinHandle::join) {
            Some(Ok(loaded)) => loaded,
            Some(Err(_)) | None => Err("the floor's loader has panicked".to_owned()),
        }
    }

    fn close(&self) {
        self.exchange.lock().is_closed = true;
        self.unpark();
    }

    fn unpark(&self) {
        if let Some(loader) = &self.loader {
            loader.thread().unpark();
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.close();
    }
}
