//! The load generator: a few threads, each with its own epoll, its own connections and its own histograms.
//!
//! ```text
//!  main thread ──Control──▶ worker 0 … n ──Event──▶ main thread
//!                  (waker)      │  sockets, codec, plan, windows
//!                               └─ Protocol: what the bytes mean   (crate::protocol)
//! ```
//!
//! From the inside out: [`websocket`] (frames), [`flow`] (messages of one connection), [`recorder`] (figures),
//! [`schedule`] (when to send), [`timer`], [`turn`] (what a protocol reports), [`connection`], [`worker`] (the loop).
//!
//! Invariants:
//! - threads share nothing but the protocol's `System`; a delivery takes no lock, no atomic and no allocation. At
//!   2,000,000 deliveries a second each of them would be the bottleneck that is then measured instead of the server;
//! - the clock is read once per batch of received bytes; planned sends wait for a timerfd, not for epoll's milliseconds;
//! - every queue is bounded: a connection's window, what waits for room in it, the events to the main thread.
//!
//! Deliberately absent: TLS (whose cost would blur the figures) and `io_uring` (epoll runs wherever people measure).

pub mod connection;
pub mod flow;
pub mod recorder;
pub mod schedule;
pub mod timer;
pub mod turn;
pub mod websocket;
mod worker;

use crate::protocol::System;
use connection::Sources;
use mio::{Poll, Waker};
use recorder::{Findings, Interval};
use schedule::{Pace, Stream};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Events that may wait for the main thread.
const EVENTS_MAX: usize = 4096;

/// One connection to be made.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Whose it is.
    pub user: u32,
    /// The rooms it is in, by index.
    pub rooms: Arc<[u32]>,
    /// It takes part in the pause of slow readers.
    pub slow: bool,
    /// It takes part in the storm.
    pub cut: bool,
}

/// How connections may be sending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loop {
    /// By the plan; latency counts from the planned time.
    Open,
    /// Always as much as the window allows; latency counts from the actual send.
    Closed,
}

/// Everything the engine needs to know.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Where the server is.
    pub address: SocketAddr,
    /// Where connections come from, when that is this machine.
    pub sources: Sources,
    /// The same, for the `Host` field.
    pub authority: String,
    /// How many threads.
    pub threads: usize,
    /// A lost connection is no violation.
    pub survive_restarts: bool,
    /// Most unanswered messages of one connection.
    pub window: usize,
    /// Open or closed.
    pub sending: Loop,
    /// The class of each room, by index.
    pub class_of_room: Arc<[u8]>,
    /// How many classes there are; the last one is that of slow readers.
    pub classes: usize,
    /// The connections.
    pub seats: Vec<Seat>,
    /// What is sent.
    pub streams: Vec<Stream>,
    /// When the seats marked `cut` are cut, counted from the first load.
    pub storm_at: Option<Duration>,
    /// When the seats marked `slow` stop reading, and for how long.
    pub pause: Option<(Duration, Duration)>,
    /// Most connections that a thread opens at once, at the start.
    pub opening_max: usize,
}

/// What the main thread tells a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Control {
    /// Send by this pace from now on.
    Load(Pace),
    /// Send nothing new; bring in what is under way.
    Drain,
    /// Close and end.
    Finish,
}

/// What a worker tells the main thread.
#[derive(Debug)]
pub enum Event {
    /// One more connection is ready, for the first time.
    Ready,
    /// The run can't go on.
    Failed(String),
    /// The server does not accept a user's credentials any more.
    Unauthorized(u32),
    /// A second has passed.
    Interval(Box<Interval>),
    /// The thread is done.
    Done(Box<Findings>),
}

/// The engine's clock: nanoseconds since it was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Now.
    pub fn now_ns(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Running threads.
#[derive(Debug)]
pub struct Engine {
    clock: Clock,
    controls: Vec<(Sender<Control>, Waker)>,
    events: Receiver<Event>,
    unanswered: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Starts the threads; they connect at once, and say [`Event::Ready`] for each connection.
    pub fn start<Y: System>(system: &Arc<Y>, options: &Arc<EngineOptions>) -> Result<Self, String> {
        let clock = Clock(Instant::now());
        let (events_in, events) = sync_channel(EVENTS_MAX);
        let mut engine = Self { clock, controls: Vec::new(), events, unanswered: Vec::new(), threads: Vec::new() };
        for thread in 0..options.threads {
            let protocol = system.protocol();
            engine.add(thread, protocol, Arc::clone(options), events_in.clone())?;
        }
        Ok(engine)
    }

    fn add<P: crate::protocol::Protocol + Send + 'static>(
        &mut self,
        number: usize,
        protocol: P,
        options: Arc<EngineOptions>,
        events: SyncSender<Event>,
    ) -> Result<(), String> {
        let poll = Poll::new().map_err(|error| format!("cannot make an epoll: {error}"))?;
        let waker = Waker::new(poll.registry(), worker::WAKER).map_err(|error| format!("cannot wake: {error}"))?;
        let (control, controls) = channel();
        let unanswered = Arc::new(AtomicU64::new(u64::MAX));
        let seat = worker::Place { number, clock: self.clock, controls, events, unanswered: Arc::clone(&unanswered) };
        let mut worker = worker::Worker::new(poll, protocol, options, seat)?;
        let thread = std::thread::Builder::new()
            .name(format!("engine-{number}"))
            .spawn(move || worker.run())
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        self.controls.push((control, waker));
        self.unanswered.push(unanswered);
        self.threads.push(thread);
        Ok(())
    }

    /// The engine's clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Begins a load, the first one or the next.
    pub fn load(&self, pace: Pace) {
        self.tell(Control::Load(pace));
    }

    /// Ends all loads; what is under way comes in.
    pub fn drain(&self) {
        self.tell(Control::Drain);
    }

    /// Ends the threads; each says [`Event::Done`].
    pub fn finish(&self) {
        self.tell(Control::Finish);
    }

    fn tell(&self, control: Control) {
        for (sender, waker) in &self.controls {
            // A thread that has ended needs no telling; its last event says why it did.
            let _ = sender.send(control);
            let _ = waker.wake();
        }
    }

    /// Messages without an answer, as of a moment ago; only while draining.
    pub fn unanswered(&self) -> u64 {
        self.unanswered.iter().map(|count| count.load(Ordering::Acquire)).fold(0, u64::saturating_add)
    }

    /// The next event; `None` when there is none within `patience`.
    pub fn event(&self, patience: Duration) -> Result<Option<Event>, String> {
        match self.events.recv_timeout(patience) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err("all engine threads have ended".to_owned()),
        }
    }

    /// Waits for the threads to end, after [`finish`](Self::finish) and every [`Event::Done`].
    pub fn join(self) {
        for thread in self.threads {
            // A thread that panicked has said so on stderr.
            let _ = thread.join();
        }
    }
}
