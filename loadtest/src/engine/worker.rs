//! One engine thread: an epoll loop over its connections, its share of the plan, and a few timers.
//!
//! A turn of the loop: what the main thread said, sockets that are readable or writable, sends that are due, moments
//! that have come, the end of a second. Sends that are due are looked at after every connection's batch, not after all
//! of them: under a flood of deliveries a planned send must not wait for the last socket.
//!
//! Readiness is edge-triggered: a socket is read until it gives less than was asked for, and written until it takes
//! less than was offered; the next edge then comes by itself.

use super::connection::{Connection, Lost, Phase};
use super::flow::Flight;
use super::recorder::Recorder;
use super::schedule::{Due, Pace, Purpose, Schedule};
use super::timer::{Agenda, Timer, Wake};
use super::turn::Effects;
use super::websocket::{FRAME_BYTES_MAX, Inflater, Opcode, Outbox, Parsed, parse};
use super::{Clock, Control, EngineOptions, Event, Loop};
use crate::payload::Token;
use crate::protocol::{ClientIndex, Peer, Protocol, Publish};
use crate::violations::Kind;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use rustix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

/// The main thread has said something.
pub(super) const WAKER: mio::Token = mio::Token(usize::MAX - 1);
const TIMER: mio::Token = mio::Token(usize::MAX - 2);
/// Bytes read at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// A connection with more unwritten bytes than this is not given more.
const UNWRITTEN_MAX: usize = 64 * 1024;
/// Between two looks at things that need no hurry.
const TICK_NS: u64 = 10_000_000;
/// Between two reports to the checkers while draining.
const SYNC_NS: u64 = 50_000_000;
/// First pause before a reconnection.
const RETRY_NS: u64 = 50_000_000;
/// Longest pause between two attempts.
const RETRY_NS_MAX: u64 = 2_000_000_000;
/// Longest wait for a connection to become ready.
const OPEN_NS: u64 = 20_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// The server's close code for a reader that is too slow.
const TOO_SLOW: u16 = 4003;

/// Where a worker stands among others.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) number: usize,
    pub(super) clock: Clock,
    pub(super) controls: Receiver<Control>,
    pub(super) events: SyncSender<Event>,
    pub(super) unanswered: Arc<AtomicU64>,
}

/// A connection with what only the loop needs to know of it.
struct Slot<S> {
    connection: Connection<S>,
    cut: bool,
    was_ready: bool,
    attempt: u32,
    pause_ns: u64,
    retry_after_ms: Option<u64>,
    /// Rooms it sends to in a closed loop, in turn.
    closed: Vec<u32>,
    closed_next: usize,
    held_until_ns: u64,
    /// It does not read.
    paused: bool,
    /// It is behind, since when and why.
    behind: Option<(&'static str, u64)>,
}

/// How far the run is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Connecting,
    Sending,
    Draining,
    Over,
}

/// One engine thread.
pub(super) struct Worker<P: Protocol> {
    poll: Poll,
    timer: Timer,
    protocol: P,
    options: Arc<EngineOptions>,
    place: Place,
    slots: Vec<Slot<P::State>>,
    to_open: VecDeque<u32>,
    buffer: Vec<u8>,
    inflater: Inflater,
    recorder: Recorder,
    schedule: Schedule,
    agenda: Agenda,
    stage: Stage,
    start_ns: u64,
    tick_ns: u64,
    sync_ns: u64,
    cpu_ns: u64,
}

impl<P: Protocol> Worker<P> {
    pub(super) fn new(poll: Poll, mut protocol: P, options: Arc<EngineOptions>, place: Place) -> Result<Self, String> {
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
            stage: Stage::Connecting,
            start_ns: u64::MAX,
            tick_ns: 0,
            sync_ns: 0,
            cpu_ns: 0,
        })
    }

    /// Runs until the main thread says that it is over.
    pub(super) fn run(&mut self) {
        if let Err(reason) = self.serve() {
            let _ = self.place.events.send(Event::Failed(reason));
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
                        self.send_due();
                    }
                }
            }
            self.listen()?;
            if self.stage == Stage::Over {
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

    /// What the main thread said.
    fn listen(&mut self) -> Result<(), String> {
        while let Ok(control) = self.place.controls.try_recv() {
            match control {
                Control::Load(pace) => self.load(pace),
                Control::Drain => self.drain(),
                Control::Finish => return self.finish(),
            }
        }
        Ok(())
    }

    fn load(&mut self, pace: Pace) {
        let first = self.stage == Stage::Connecting;
        if first {
            self.stage = Stage::Sending;
            self.start_ns = pace.start_ns;
            self.cpu_ns = thread_cpu_ns();
            // What happened while connecting is no part of the first second.
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
    }

    /// The plan is over: what was due and could not be written is counted and forgotten.
    fn drain(&mut self) {
        if self.stage != Stage::Sending {
            return;
        }
        self.send_due();
        self.stage = Stage::Draining;
        self.schedule.end();
        for slot in 0..self.slots.len() {
            self.pump(slot);
            self.recorder.now.tally.unsent += self.slots[slot].connection.flow.drop_backlog();
            self.write(slot);
        }
    }

    fn finish(&mut self) -> Result<(), String> {
        self.sync();
        self.stage = Stage::Over;
        for slot in &mut self.slots {
            let client = slot.connection.peer.client.0;
            if slot.connection.phase != Phase::Ready && slot.was_ready {
                let note = || format!("client {client}: the run ended before it was connected again");
                self.recorder.findings.violations.note(Kind::NotRestored, note);
            }
            if slot.connection.phase == Phase::Ready
                && let Some(socket) = &mut slot.connection.socket
            {
                slot.connection.peer.out.frame(Opcode::Close, |out| out.extend_from_slice(&1000_u16.to_be_bytes()));
                // Best effort: whoever is done does not wait for the other side's goodbye.
                let _ = socket.write(slot.connection.peer.out.unwritten());
            }
            slot.connection.close();
        }
        self.end_interval(u32::MAX)?;
        let findings = std::mem::take(&mut self.recorder.findings);
        let _ = self.place.events.send(Event::Done(Box::new(findings)));
        Ok(())
    }

    /// Things that need no hurry.
    fn tick(&mut self, now_ns: u64) -> Result<(), String> {
        self.tick_ns = now_ns + TICK_NS;
        if now_ns >= self.start_ns {
            let second = ((now_ns - self.start_ns) / SECOND_NS) as u32;
            if second > self.recorder.now.index {
                self.end_interval(second)?;
            }
        }
        if self.stage == Stage::Draining && now_ns >= self.sync_ns {
            self.sync_ns = now_ns + SYNC_NS;
            self.sync();
        }
        Ok(())
    }

    fn end_interval(&mut self, next: u32) -> Result<(), String> {
        let cpu_ns = thread_cpu_ns();
        let mut interval = self.recorder.turn(next)?;
        interval.thread = self.place.number;
        interval.cpu_ns = cpu_ns.saturating_sub(self.cpu_ns);
        self.cpu_ns = cpu_ns;
        // The main thread takes events all the time; were it gone, nobody would miss this.
        let _ = self.place.events.send(Event::Interval(Box::new(interval)));
        Ok(())
    }

    /// Tells the checkers where every connection is.
    fn sync(&mut self) {
        let mut unanswered = 0;
        for slot in &mut self.slots {
            self.protocol.sync(&mut slot.connection.peer);
            unanswered += slot.connection.flow.in_flight() as u64;
        }
        self.place.unanswered.store(unanswered, Ordering::Release);
    }

    fn wake(&mut self, slot: usize, wake: Wake, now_ns: u64) {
        match wake {
            Wake::Retry => self.open(slot),
            Wake::GiveUp(attempt) => {
                let Slot { connection, attempt: current, .. } = &self.slots[slot];
                if *current == attempt && matches!(connection.phase, Phase::Opening | Phase::Open) {
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
                self.forget(slot);
                // All at once: that is what a storm is.
                self.agenda.add(now_ns, slot as u32, Wake::Retry);
            }
        }
    }

    // Opening and losing.

    fn open_next(&mut self) {
        if let Some(slot) = self.to_open.pop_front() {
            self.open(slot as usize);
        }
    }

    fn open(&mut self, slot: usize) {
        let now_ns = self.place.clock.now_ns();
        let Slot { connection, attempt, .. } = &mut self.slots[slot];
        *attempt += 1;
        self.agenda.add(now_ns + OPEN_NS, slot as u32, Wake::GiveUp(*attempt));
        let upgrade = self.protocol.upgrade(&connection.peer);
        let opened = connection.open(self.options.address, &self.options.authority, &upgrade).and_then(|()| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            match &mut connection.socket {
                Some(socket) => self.poll.registry().register(socket, mio::Token(slot), interest),
                None => Ok(()),
            }
        });
        if let Err(error) = opened {
            self.lose(slot, &Lost::because(explain(&error)));
        }
    }

    /// Closes a connection and forgets what was half done on it.
    fn forget(&mut self, slot: usize) {
        let Slot { connection, was_ready, .. } = &mut self.slots[slot];
        if connection.phase == Phase::Ready {
            self.recorder.now.tally.lost += 1;
        }
        self.protocol.lost(&mut connection.peer);
        connection.peer.reopened |= *was_ready;
        connection.close();
    }

    fn lose(&mut self, slot: usize, lost: &Lost) {
        let now_ns = self.place.clock.now_ns();
        let ready = self.slots[slot].connection.phase == Phase::Ready;
        self.forget(slot);
        let Slot { connection, was_ready, pause_ns, retry_after_ms, cut, .. } = &mut self.slots[slot];
        let client = connection.peer.client.0;
        if lost.unauthorized {
            let _ = self.place.events.send(Event::Unauthorized(connection.peer.user));
        }
        if !*was_ready && !lost.unauthorized {
            let _ = self.place.events.send(Event::Failed(format!(
                "connection {client} to ws://{}: {}",
                self.options.authority, lost.reason
            )));
            return;
        }
        let allowed = self.options.survive_restarts
            || (connection.slow && lost.code == Some(TOO_SLOW))
            || (*cut && !ready);
        if ready && !allowed {
            let note = || format!("client {client}: {}", lost.reason);
            self.recorder.findings.violations.note(Kind::ConnectionLost, note);
        }
        if ready {
            *pause_ns = RETRY_NS;
        }
        // Spread: all clients lose a restarting server at the same moment.
        let base_ns = retry_after_ms.take().map_or(*pause_ns, |ms| ms.saturating_mul(1_000_000));
        let spread_ns = (base_ns as f64 * (0.5 + rand::random::<f64>())) as u64;
        *pause_ns = (*pause_ns * 2).min(RETRY_NS_MAX);
        self.agenda.add(now_ns + spread_ns, slot as u32, Wake::Retry);
    }

    /// A connection can publish: for the first time, or again.
    fn ready(&mut self, slot: usize) {
        let Slot { connection, was_ready, pause_ns, .. } = &mut self.slots[slot];
        *pause_ns = RETRY_NS;
        if std::mem::replace(was_ready, true) {
            self.recorder.now.tally.restored += 1;
            for (number, flight) in connection.flow.unanswered() {
                let token = Token { client: connection.peer.client, number };
                let Flight { room, planned_ns } = flight;
                self.protocol.publish(&mut connection.peer, Publish { token, room, planned_ns, repeated: true });
                self.recorder.now.tally.resent += 1;
            }
        } else {
            let _ = self.place.events.send(Event::Ready);
            self.open_next();
        }
        self.pump(slot);
    }

    // Sending.

    /// Sends what the plan wants sent by now.
    fn send_due(&mut self) {
        if self.stage != Stage::Sending {
            return;
        }
        let mut now_ns = self.place.clock.now_ns();
        while let Some(due) = self.schedule.due(now_ns) {
            let slot = due.client as usize / self.options.threads;
            match due.purpose {
                Purpose::Message => self.send_planned(slot, due, now_ns),
                Purpose::Other(action) => {
                    let Slot { connection, .. } = &mut self.slots[slot];
                    if connection.phase == Phase::Ready && connection.peer.out.unwritten().len() < UNWRITTEN_MAX {
                        let sent = self.protocol.act(&mut connection.peer, action, due.room, now_ns);
                        self.recorder.now.tally.other_commands += u64::from(sent && action.is_silent());
                    }
                }
            }
            self.write(slot);
            now_ns = self.place.clock.now_ns();
        }
    }

    fn send_planned(&mut self, slot: usize, due: Due, now_ns: u64) {
        let Slot { connection, .. } = &mut self.slots[slot];
        let tally = &mut self.recorder.now.tally;
        tally.planned += 1;
        let flight = Flight { room: due.room, planned_ns: due.planned_ns };
        let free = connection.phase == Phase::Ready
            && !connection.flow.has_backlog()
            && connection.flow.in_flight() < self.options.window
            && connection.peer.out.unwritten().len() < UNWRITTEN_MAX;
        if !free {
            tally.unsent += u64::from(!connection.flow.wait(flight));
            return;
        }
        tally.sent += 1;
        let lag_us = super::recorder::microseconds(now_ns.saturating_sub(due.planned_ns));
        self.recorder.now.send_lag.saturating_record(lag_us);
        publish(&mut self.protocol, connection, flight);
    }

    /// Sends what waits for room in a connection's window.
    fn pump(&mut self, slot: usize) {
        let Slot { connection, closed, closed_next, held_until_ns, .. } = &mut self.slots[slot];
        if !connection.flow.has_backlog() && (closed.is_empty() || self.stage != Stage::Sending) {
            return;
        }
        let now_ns = self.place.clock.now_ns();
        let begun = self.stage == Stage::Sending && now_ns >= self.start_ns.max(*held_until_ns);
        while connection.phase == Phase::Ready
            && connection.flow.in_flight() < self.options.window
            && connection.peer.out.unwritten().len() < UNWRITTEN_MAX
        {
            let flight = match connection.flow.next_waiting() {
                Some(flight) => flight,
                None if begun && !closed.is_empty() => {
                    let room = closed[*closed_next % closed.len()];
                    *closed_next += 1;
                    self.recorder.now.tally.planned += 1;
                    Flight { room, planned_ns: now_ns }
                }
                None => break,
            };
            self.recorder.now.tally.sent += 1;
            publish(&mut self.protocol, connection, flight);
        }
    }

    /// Writes as much as the socket takes.
    fn write(&mut self, slot: usize) {
        let Slot { connection, .. } = &mut self.slots[slot];
        loop {
            let Some(socket) = &mut connection.socket else { return };
            let bytes = connection.peer.out.unwritten();
            if bytes.is_empty() {
                return;
            }
            match socket.write(bytes) {
                Ok(count) if count == bytes.len() => connection.peer.out.advance(count),
                // The rest waits for the next edge.
                Ok(count) => {
                    connection.peer.out.advance(count);
                    return;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock || error.kind() == ErrorKind::NotConnected => {
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let lost = Lost::because(explain(&error));
                    // What the server said before it closed is still to be read: a close frame says more than a reset.
                    if connection.phase == Phase::Opening {
                        self.lose(slot, &lost);
                    } else {
                        connection.peer.out.clear();
                    }
                    return;
                }
            }
        }
    }

    // Receiving.

    fn read(&mut self, slot: usize) {
        loop {
            let Slot { connection, paused, .. } = &mut self.slots[slot];
            let Some(socket) = &mut connection.socket else { return };
            if *paused {
                return;
            }
            let held = connection.partial.len();
            self.buffer[..held].copy_from_slice(&connection.partial);
            let asked = self.buffer.len() - held;
            let count = match socket.read(&mut self.buffer[held..]) {
                Ok(0) => return self.lose(slot, &Lost::because("the connection was closed without a goodbye")),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock || error.kind() == ErrorKind::NotConnected => {
                    return;
                }
                Err(error) => return self.lose(slot, &Lost::because(explain(&error))),
            };
            let now_ns = self.place.clock.now_ns();
            self.recorder.now.tally.received_bytes += count as u64;
            let bytes = &self.buffer[..held + count];
            let digest =
                connection.digest(&mut self.protocol, &mut self.inflater, &mut self.recorder, now_ns, bytes);
            let rest = &bytes[digest.taken..];
            connection.partial.clear();
            connection.partial.extend_from_slice(rest);
            let needed = match parse(rest) {
                Parsed::Incomplete(needed) if !rest.is_empty() => needed,
                _ => 0,
            };
            if needed >= self.buffer.len() && needed <= FRAME_BYTES_MAX + 16 {
                self.buffer.resize(needed + BUFFER_BYTES, 0);
            }
            if !self.settle(slot, digest.effects, digest.lost, now_ns) || count < asked {
                return;
            }
        }
    }

    /// Does what a batch of bytes brought about; false when the connection is over.
    fn settle(&mut self, slot: usize, effects: Effects, lost: Option<Lost>, now_ns: u64) -> bool {
        let state = &mut self.slots[slot];
        if let Some(ms) = effects.retry_after_ms {
            state.retry_after_ms = Some(ms);
        }
        if let Some(ms) = effects.hold_ms
            && !state.closed.is_empty()
        {
            state.held_until_ns = now_ns + ms.saturating_mul(1_000_000);
            self.agenda.add(state.held_until_ns, slot as u32, Wake::Release);
        }
        if let Some((why, since_ns)) = state.behind
            && state.connection.phase == Phase::Ready
            && self.protocol.caught_up(&state.connection.peer)
        {
            state.behind = None;
            self.recorder.findings.operation(why, now_ns.saturating_sub(since_ns));
        }
        if let Some(lost) = lost {
            self.lose(slot, &lost);
            return false;
        }
        if effects.ready {
            self.ready(slot);
        } else if effects.answered {
            self.pump(slot);
        }
        self.write(slot);
        true
    }
}

fn publish<P: Protocol>(protocol: &mut P, connection: &mut Connection<P::State>, flight: Flight) {
    let number = connection.flow.begin(flight);
    let token = Token { client: connection.peer.client, number };
    let Flight { room, planned_ns } = flight;
    protocol.publish(&mut connection.peer, Publish { token, room, planned_ns, repeated: false });
}

fn explain(error: &std::io::Error) -> String {
    let hint = match error.kind() {
        ErrorKind::ConnectionRefused => ": nothing listens there. Is the server running?",
        ErrorKind::AddrNotAvailable => ": no free port for one more connection from this address",
        _ if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
            ": raise the limit with ulimit -n"
        }
        _ => "",
    };
    format!("{error}{hint}")
}

/// CPU that this thread has used.
fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * SECOND_NS + time.tv_nsec as u64
}
