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
//! - threads share nothing but the protocol's `System`. A delivery takes no lock, no atomic and no allocation: at
//!   2,000,000 deliveries per second each of them would be measured instead of the server;
//! - the clock is read once per batch of received bytes. Planned sends wait for a timerfd, because the time-outs of
//!   epoll have milliseconds;
//! - every queue is bounded: a connection's window, its backlog, and the events to the main thread.
//!
//! Deliberately absent: TLS, whose cost would blur the figures, and `io_uring`, because epoll runs on every machine.

mod channel;
pub mod connection;
pub mod flow;
mod options;
pub mod recorder;
pub mod schedule;
pub mod timer;
pub mod turn;
pub mod websocket;
mod worker;

pub use channel::{Clock, WorkerReport};
pub use options::{Endpoint, EngineOptions, Loop, Seat};

use crate::protocol::System;
use channel::Control;
use mio::{Poll, Waker};
use schedule::Pace;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Events that may wait for the main thread.
const EVENTS_MAX: usize = 4096;
/// How long threads may take to end.
pub const ENDING_MAX: Duration = Duration::from_secs(10);

/// Running threads. They end with it.
#[derive(Debug)]
pub struct Engine {
    clock: Clock,
    controls: Vec<(Sender<Control>, Waker)>,
    events: Receiver<WorkerReport>,
    pending: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Starts the threads. They connect immediately and send [`WorkerReport::Ready`] for each connection.
    pub fn start<Y: System>(system: &Arc<Y>, options: &Arc<EngineOptions>) -> Result<Self, String> {
        let clock = Clock::start();
        let (events_in, events) = sync_channel(EVENTS_MAX);
        let mut engine = Self { clock, controls: Vec::new(), events, pending: Vec::new(), threads: Vec::new() };
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
        events: SyncSender<WorkerReport>,
    ) -> Result<(), String> {
        let poll = Poll::new().map_err(|error| format!("cannot make an epoll: {error}"))?;
        let waker = Waker::new(poll.registry(), worker::WAKER).map_err(|error| format!("cannot wake: {error}"))?;
        let (control, controls) = channel();
        let pending = Arc::new(AtomicU64::new(u64::MAX));
        let seat = worker::WorkerPlace { number, clock: self.clock, controls, events, pending: Arc::clone(&pending) };
        let mut worker = worker::Worker::new(poll, protocol, options, seat)?;
        let thread = std::thread::Builder::new()
            .name(format!("engine-{number}"))
            .spawn(move || worker.run())
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        self.controls.push((control, waker));
        self.pending.push(pending);
        self.threads.push(thread);
        Ok(())
    }

    /// The engine's clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Begins a load, the first one or the next.
    pub fn load(&self, pace: Pace) {
        self.send_all(Control::Load(pace));
    }

    /// Ends all loads and waits for what is in flight.
    pub fn drain(&self) {
        self.send_all(Control::Drain);
    }

    /// Ends the threads; each sends [`WorkerReport::Done`]. `complete` is false when what is in flight is no violation.
    pub fn finish(&self, complete: bool) {
        self.send_all(Control::Finish { complete });
    }

    fn send_all(&self, control: Control) {
        for (sender, waker) in &self.controls {
            // A thread that has ended needs no command; its last event has the reason.
            let _ = sender.send(control);
            let _ = waker.wake();
        }
    }

    /// What is still missing, as of the last report; only while draining: messages and commands without an answer, and
    /// lost connections that have not caught up.
    pub fn pending(&self) -> u64 {
        self.pending.iter().map(|count| count.load(Ordering::Acquire)).fold(0, u64::saturating_add)
    }

    /// The next event; `None` when there is none within `patience`.
    pub fn event(&self, patience: Duration) -> Result<Option<WorkerReport>, String> {
        match self.events.recv_timeout(patience) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err("all engine threads have ended".to_owned()),
        }
    }
}

impl Drop for Engine {
    /// Ends the threads and waits for them: a run that has failed must not continue to send and reconnect during the
    /// next one.
    fn drop(&mut self) {
        // A thread must not wait for space in a queue without a reader: without a receiver, sending fails.
        self.events = sync_channel(0).1;
        self.finish(false);
        let deadline = Instant::now() + ENDING_MAX;
        for thread in self.threads.drain(..) {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                // A thread that panicked has reported it on stderr.
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::connection::Sources;
    use super::*;
    use crate::payload::{PayloadFormat, RunId, Sizes};
    use crate::protocol::veza::wire::Format;
    use crate::protocol::veza::{Veza, VezaOptions};

    #[test]
    fn stops_all_threads_when_it_is_dropped() {
        // No program accepts: the connections stay half open, as in a run that fails while connecting.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let seat = Seat { user: 0, rooms: Arc::new([0]), slow: false, cut: false };
        let options = Arc::new(EngineOptions {
            endpoints: vec![Endpoint { address, authority: address.to_string() }],
            sources: Sources::random(),
            threads: 2,
            survive_restarts: true,
            window: 1,
            back_off: false,
            sending: Loop::Open,
            class_of_room: Arc::new([0]),
            classes: 1,
            seats: vec![seat; 4],
            streams: Vec::new(),
            storm_at: None,
            pause: None,
            opening_max: 4,
        });
        let formats = vec![Format::Json];
        let system = Arc::new(Veza::new(
            vec!["room".to_owned()],
            vec!["token".to_owned()],
            PayloadFormat { run: RunId(1), sizes: Sizes::all(64) },
            VezaOptions { formats, compression: false, checks: true },
        ));
        let engine = Engine::start(&system, &options).expect("it starts");
        // Each thread owns the options until it ends.
        assert_eq!(Arc::strong_count(&options), 3);
        drop(engine);
        assert_eq!(Arc::strong_count(&options), 1);
    }
}
