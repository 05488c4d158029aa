//! One engine thread: an epoll loop over its connections, its share of the plan, and a few timers.
//!
//! One turn of the loop handles the messages of the main thread, readable and writable sockets, due sends, due
//! wake-ups, and the end of a second. It checks for due sends after the batch of every connection, not after all of
//! them: under a flood of deliveries a planned send must not wait for the last socket.
//!
//! Readiness is edge-triggered. A socket is read until it returns less than requested, and written until it accepts
//! less than offered. The next edge then arrives by itself.

mod opening;
mod sending;
mod socket;
mod state;

pub(super) use state::{WAKER, Worker, WorkerPlace};

use super::channel::{Control, WorkerReport};
use super::connection::{Connection, ConnectionPhase, Lost};
use super::options::{EngineOptions, Loop};
use super::recorder::{Part, Recorder};
use super::schedule::{Pace, Purpose, Schedule};
use super::timer::{Agenda, Timer, Wake};
use super::websocket::{Inflater, Opcode, Outbox};
use crate::measure::thread;
use crate::protocol::{ClientIndex, Peer, Protocol};
use crate::violations::ViolationKind;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use state::{BUFFER_BYTES, RETRY_NS, RunStage, SECOND_NS, SYNC_NS, Slot, TICK_NS, TIMER, UNWRITTEN_MAX};
use std::io::{ErrorKind, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

/// Sends that are due, between two looks at what has arrived.
const DUE_AT_ONCE: usize = 32;
/// A generator that is this far behind its plan reads everything that has arrived before it sends more: otherwise the
/// server waits for it, and all answers are late.
const BEHIND_NS: u64 = 5_000_000;

impl<P: Protocol> Worker<P> {
    pub(super) fn new(
        poll: Poll,
        mut protocol: P,
        options: Arc<EngineOptions>,
        place: WorkerPlace,
    ) -> Result<Self, String> {
        let timer = Timer::new().map_err(|error| format!("cannot make a timer: {error}"))?;
        poll.registry()
            .register(&mut SourceFd(&timer.raw()), TIMER, Interest::READABLE)
            .map_err(|error| format!("cannot wait for a timer: {error}"))?;
        let mut slots = Vec::new();
        for (seat, client) in options.seats.iter().zip(0_u32..) {
            if client as usize % options.threads != place.number {
                continue;
            }
            let index = ClientIndex(client);
            let peer = Peer {
                client: index,
                user: seat.user,
                rooms: Arc::clone(&seat.rooms),
                reopened: false,
                state: protocol.state(index, &seat.rooms),
                out: Outbox::new(rand::random()),
            };
            slots.push(Slot {
                connection: Connection::new(peer, seat.slow),
                cut: seat.cut,
                was_ready: false,
                attempt: 0,
                pause_ns: RETRY_NS,
                retry_after_ms: None,
                refused: false,
                closed: Vec::new(),
                closed_next: 0,
                held_until_ns: 0,
                paused: false,
                behind: None,
            });
        }
        if options.sending == Loop::Closed {
            let messages = options.streams.iter().filter(|stream| stream.purpose == Purpose::Message);
            for (client, room) in messages.flat_map(|stream| &stream.senders) {
                if *client as usize % options.threads == place.number
                    && let Some(slot) = slots.get_mut(*client as usize / options.threads)
                {
                    slot.closed.push(*room);
                }
            }
        }
        let recorder = Recorder::new(Arc::clone(&options.class_of_room), options.classes)?;
        let to_open = (0..slots.len() as u32).collect();
        Ok(Self {
            poll,
            timer,
            protocol,
            options,
            place,
            slots,
            to_open,
            buffer: vec![0; BUFFER_BYTES],
            inflater: Inflater::default(),
            recorder,
            schedule: Schedule::default(),
            agenda: Agenda::default(),
            stage: RunStage::Connecting,
            start_ns: u64::MAX,
            tick_ns: 0,
            sync_ns: 0,
            cpu_ns: 0,
            interval_ns: 0,
        })
    }

    /// Runs until the main thread ends it.
    pub(super) fn run(&mut self) {
        if let Err(reason) = self.serve() {
            let _ = self.place.events.send(WorkerReport::Failed(reason));
        }
    }

    fn serve(&mut self) -> Result<(), String> {
        let mut events = Events::with_capacity(1024);
        for _ in 0..self.options.opening_max {
            self.open_next();
        }
        loop {
            let now_ns = self.place.clock.now_ns();
            let wake_ns = self.schedule.next_ns().min(self.agenda.next_ns()).min(self.tick_ns);
            let timeout = if wake_ns <= now_ns {
                Some(Duration::ZERO)
            } else {
                self.timer.arm(now_ns, wake_ns).map_err(|error| format!("cannot arm a timer: {error}"))?;
                None
            };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(format!("epoll: {error}")),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    WAKER => {}
                    TIMER => self.timer.clear().map_err(|error| format!("cannot read a timer: {error}"))?,
                    mio::Token(slot) => {
                        if event.is_writable() {
                            self.write(slot);
                        }
                        if event.is_readable() {
                            self.read(slot);
                        }
                        if self.place.clock.now_ns() < self.schedule.next_ns().saturating_add(BEHIND_NS) {
                            self.send_due();
                        }
                    }
                }
            }
            self.listen()?;
            if self.stage == RunStage::Over {
                return Ok(());
            }
            self.send_due();
            let now_ns = self.place.clock.now_ns();
            while let Some((slot, wake)) = self.agenda.due(now_ns) {
                self.wake(slot as usize, wake, now_ns);
            }
            if now_ns >= self.tick_ns {
                self.tick(now_ns)?;
            }
        }
    }

    /// Handles the commands of the main thread. If it has ended, the run is over.
    fn listen(&mut self) -> Result<(), String> {
        loop {
            match self.place.controls.try_recv() {
                Ok(Control::Load(pace)) => self.load(pace)?,
                Ok(Control::Drain) => self.drain()?,
                Ok(Control::Finish { complete }) => return self.finish(complete),
                Err(TryRecvError::Disconnected) => return self.finish(false),
                Err(TryRecvError::Empty) => return Ok(()),
            }
        }
    }

    fn load(&mut self, pace: Pace) -> Result<(), String> {
        let first = self.stage == RunStage::Connecting;
        if first {
            self.stage = RunStage::Sending;
            self.start_ns = pace.start_ns;
            // The first second does not include what happened while connecting.
            self.end_interval(Part::Sending, 0)?;
            self.interval_ns = pace.start_ns;
            let moments = |at: Duration| pace.start_ns + at.as_nanos() as u64;
            for slot in 0..self.slots.len() {
                let Slot { cut, connection, .. } = &self.slots[slot];
                if let (true, Some(at)) = (*cut, self.options.storm_at) {
                    self.agenda.add(moments(at), slot as u32, Wake::Cut);
                }
                if let (true, Some((at, length))) = (connection.slow, self.options.pause) {
                    self.agenda.add(moments(at), slot as u32, Wake::Pause);
                    self.agenda.add(moments(at + length), slot as u32, Wake::Unpause);
                }
            }
        }
        match self.options.sending {
            Loop::Open => {
                self.schedule = Schedule::new(&self.options.streams, pace, self.place.number, self.options.threads);
            }
            Loop::Closed => {
                let others: Vec<_> =
                    self.options.streams.iter().filter(|s| s.purpose != Purpose::Message).cloned().collect();
                self.schedule = Schedule::new(&others, pace, self.place.number, self.options.threads);
                for slot in 0..self.slots.len() {
                    if !self.slots[slot].closed.is_empty() {
                        self.agenda.add(pace.start_ns, slot as u32, Wake::Release);
                    }
                }
            }
        }
        Ok(())
    }

    /// The plan has ended: due messages that could not be written are counted and dropped.
    fn drain(&mut self) -> Result<(), String> {
        if self.stage != RunStage::Sending {
            return Ok(());
        }
        self.send_due();
        // What the generator was too slow for.
        while let Some(due) = self.schedule.due(self.place.clock.now_ns()) {
            let missed = u64::from(due.purpose == Purpose::Message);
            self.recorder.now.tally.planned += missed;
            self.recorder.now.tally.unsent += missed;
        }
        self.end_interval(Part::Draining, self.recorder.now.index)?;
        self.stage = RunStage::Draining;
        self.schedule.end();
        for slot in 0..self.slots.len() {
            self.pump(slot);
            self.recorder.now.tally.unsent += self.slots[slot].connection.flow.drop_backlog();
            self.write(slot);
        }
        Ok(())
    }

    fn finish(&mut self, complete: bool) -> Result<(), String> {
        self.sync();
        self.stage = RunStage::Over;
        for slot in &mut self.slots {
            let client = slot.connection.peer.client.0;
            let violations = &mut self.recorder.findings.violations;
            if let (true, Some(state)) = (complete, slot.missing(&self.protocol)) {
                violations
                    .note(ViolationKind::NotRestored, || format!("client {client}: the run ended before it {state}"));
            }
            let unanswered = if complete { self.protocol.unanswered(&slot.connection.peer) } else { 0 };
            violations.note_many(ViolationKind::Unanswered, unanswered, || {
                format!("client {client}: no answer to {unanswered} commands other than messages")
            });
            if slot.connection.phase == ConnectionPhase::Ready
                && let Some(socket) = &mut slot.connection.socket
            {
                slot.connection.peer.out.frame(Opcode::Close, |out| out.extend_from_slice(&1000_u16.to_be_bytes()));
                // Best effort: a finished run does not wait for the server's close frame.
                let _ = socket.write(slot.connection.peer.out.unwritten());
            }
            slot.connection.close();
        }
        self.end_interval(Part::Draining, u32::MAX)?;
        let findings = std::mem::take(&mut self.recorder.findings);
        let _ = self.place.events.send(WorkerReport::Done(Box::new(findings)));
        Ok(())
    }

    /// Work that is not urgent.
    fn tick(&mut self, now_ns: u64) -> Result<(), String> {
        self.tick_ns = now_ns + TICK_NS;
        if now_ns >= self.start_ns {
            let second = ((now_ns - self.start_ns) / SECOND_NS) as u32;
            if second > self.recorder.now.index {
                self.end_interval(self.recorder.now.part, second)?;
            }
        }
        if self.stage == RunStage::Draining && now_ns >= self.sync_ns {
            self.sync_ns = now_ns + SYNC_NS;
            self.sync();
        }
        Ok(())
    }

    /// Reports the current interval and begins number `next` of the given part.
    fn end_interval(&mut self, part: Part, next: u32) -> Result<(), String> {
        let (cpu_ns, now_ns) = (thread::cpu_ns(), self.place.clock.now_ns());
        let mut interval = self.recorder.turn(part, next)?;
        interval.length_ns = now_ns.saturating_sub(self.interval_ns);
        self.interval_ns = now_ns;
        interval.thread = self.place.number;
        interval.cpu_ns = cpu_ns.saturating_sub(self.cpu_ns);
        self.cpu_ns = cpu_ns;
        // The main thread always receives events. If it has ended, the interval is not needed.
        let _ = self.place.events.send(WorkerReport::Interval(Box::new(interval)));
        Ok(())
    }

    /// Reports every cursor to the checkers, and the number of missing answers to the main thread.
    fn sync(&mut self) {
        let mut pending = 0;
        for slot in &mut self.slots {
            self.protocol.sync(&mut slot.connection.peer);
            pending += slot.connection.flow.in_flight() as u64;
            pending += self.protocol.unanswered(&slot.connection.peer);
            pending += u64::from(slot.missing(&self.protocol).is_some());
        }
        self.place.pending.store(pending, Ordering::Release);
    }

    fn wake(&mut self, slot: usize, wake: Wake, now_ns: u64) {
        match wake {
            Wake::Retry => self.open(slot),
            Wake::GiveUp(attempt) => {
                let Slot { connection, attempt: current, .. } = &self.slots[slot];
                if *current == attempt && matches!(connection.phase, ConnectionPhase::Opening | ConnectionPhase::Open) {
                    self.lose(slot, &Lost::because("not ready within 20 s"));
                }
            }
            Wake::Release => {
                self.pump(slot);
                self.write(slot);
            }
            Wake::Pause => self.slots[slot].paused = true,
            Wake::Unpause => {
                self.slots[slot].paused = false;
                self.protocol.fall_behind(&mut self.slots[slot].connection.peer);
                self.slots[slot].behind = Some(("slow_reader_caught_up", now_ns));
                self.read(slot);
            }
            Wake::Cut => {
                self.protocol.fall_behind(&mut self.slots[slot].connection.peer);
                self.slots[slot].behind = Some(("reconnected_and_caught_up", now_ns));
                self.drop_connection(slot);
                // All reconnect at once: that makes it a storm.
                self.agenda.add(now_ns, slot as u32, Wake::Retry);
            }
        }
    }

    /// Sends what is due by the plan.
    fn send_due(&mut self) {
        if self.stage != RunStage::Sending {
            return;
        }
        let mut now_ns = self.place.clock.now_ns();
        for _ in 0..DUE_AT_ONCE {
            let Some(due) = self.schedule.due(now_ns) else { break };
            let slot = due.client as usize / self.options.threads;
            match due.purpose {
                Purpose::Message => self.send_planned(slot, due, now_ns),
                Purpose::Other(action) => {
                    let Slot { connection, .. } = &mut self.slots[slot];
                    if connection.phase == ConnectionPhase::Ready
                        && connection.peer.out.unwritten().len() < UNWRITTEN_MAX
                    {
                        let sent = self.protocol.act(&mut connection.peer, action, due.room, now_ns);
                        self.recorder.now.tally.other_commands += u64::from(sent && action.is_silent());
                    }
                }
            }
            self.write(slot);
            now_ns = self.place.clock.now_ns();
        }
    }
}
