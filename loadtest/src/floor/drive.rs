//! The client side of the socket floor and of the bare loop: many connections in one thread, cheap enough not to be the
//! limit.
//!
//! A message starts with a header of [`HEADER_BYTES`]: its planned time (nanoseconds since the driver's epoch) and the
//! number of the sending connection. The rest is padding. Latency counts from the planned time. With an open load the
//! plan does not wait for the server. With a closed load a sender keeps `window` messages in flight, and the planned
//! time of a message is when its slot in the window became free. The sender's own copy of a message is its ack.
//!
//! Invariant: at the end every connection has received exactly what was sent in its room; otherwise the run is an
//! error. A floor that drops deliveries would look faster than it is.

use super::shape::{FloorLoad, Shape};
use super::summary::Percentiles;
use super::wire::{GREETING_BYTES, HEADER_BYTES, READ_BYTES, read_header, write_header};
use crate::engine::recorder::histogram;
use crate::measure::process::{ProcessMeter, Sample};
use crate::measure::thread;
use crate::plan::{Plan, PlanOptions, Spacing};
use crate::progress;
use crate::run::Interrupts;
use crate::setup::pin::pin;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Without an arrival for this long while some are missing, they are counted as lost.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may take to be greeted.
const GREETING_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the clock and the progress bar are checked when nothing else happens.
const LOOK: Duration = Duration::from_millis(20);
/// Backlog of one sender's socket. Only a rate beyond the floor's limit reaches it.
const OUTBOX_BYTES_MAX: usize = 16 << 20;
const TIMER: Token = Token(usize::MAX);

/// Whose CPU is read at both ends of the measured time.
#[derive(Clone, Copy, Default)]
pub struct Watched<'a> {
    /// The server's process.
    pub server: Option<u32>,
    /// PostgreSQL. Another thread samples it in between, so that the CPU of no process that ends is missed.
    pub store: Option<&'a Mutex<ProcessMeter>>,
}

/// What happened in the measured time.
#[derive(Clone, Debug)]
pub struct DriveFigures {
    /// Measured, seconds.
    pub seconds: f64,
    /// Messages written.
    pub messages: u64,
    /// Messages whose own copy has arrived at their sender.
    pub acked: u64,
    /// Messages that arrived at a member.
    pub deliveries: u64,
    /// CPU of the server's process, nanoseconds.
    pub server_ns: u64,
    /// CPU of the server's main thread, nanoseconds.
    pub main_thread_ns: u64,
    /// CPU of PostgreSQL, nanoseconds.
    pub store_ns: u64,
    /// CPU of the driver's thread, nanoseconds.
    pub driver_ns: u64,
    /// Planned send → arrival at a member.
    pub delivery: Percentiles,
    /// Planned send → arrival of the sender's own copy.
    pub ack: Percentiles,
    /// All messages, warm-up and drain included. Each of them has arrived at every member.
    pub messages_in_all: u64,
}

impl DriveFigures {
    /// CPU of the measured time in cores.
    pub fn cores(&self, cpu_ns: u64) -> f64 {
        cpu_ns as f64 / 1e9 / self.seconds
    }
}

/// Drives a server at `address` and measures it.
///
/// # Errors
/// What failed, or what did not arrive.
pub fn drive(
    shape: &Shape,
    address: SocketAddr,
    watched: Watched<'_>,
    interrupts: &Interrupts,
) -> Result<DriveFigures, String> {
    if let Some((_, core)) = shape.separate_cores() {
        pin(&[core])?;
    }
    let mut driver = Driver::connect(shape, address, watched, interrupts)?;
    let found = driver.run();
    driver.bar.finish_and_clear();
    found
}

struct DrivenConnection {
    stream: TcpStream,
    room: u32,
    /// Received bytes of the current message.
    progress: usize,
    header: [u8; HEADER_BYTES],
    received: u64,
    /// Bytes that the socket has not accepted.
    outbox: Vec<u8>,
    /// Free slots of the window.
    credit: u32,
}

/// Counts at one time.
struct FloorReading {
    at: Instant,
    deliveries: u64,
    messages: u64,
    acked: u64,
    server: Option<Sample>,
    store: Option<Sample>,
    driver_ns: u64,
}

/// Latencies of the measured time.
struct FloorLatencies {
    delivery: Histogram<u64>,
    ack: Histogram<u64>,
}

struct Driver<'a> {
    shape: &'a Shape,
    interrupts: &'a Interrupts,
    server: Option<ProcessMeter>,
    store: Option<&'a Mutex<ProcessMeter>>,
    poll: Poll,
    timer: TimerFd,
    epoch: Instant,
    connections: Vec<DrivenConnection>,
    /// Connections that send.
    senders: Vec<usize>,
    plan: Option<Plan>,
    random: SmallRng,
    /// Senders with credit.
    ready: Vec<usize>,
    sent_in_room: Vec<u64>,
    messages: u64,
    acked: u64,
    deliveries: u64,
    sending: bool,
    latencies: Option<FloorLatencies>,
    measured_from_ns: u64,
    bar: ProgressBar,
    message: Vec<u8>,
}

impl<'a> Driver<'a> {
    fn connect(
        shape: &'a Shape,
        address: SocketAddr,
        watched: Watched<'a>,
        interrupts: &'a Interrupts,
    ) -> Result<Self, String> {
        let describe = |error: io::Error| format!("the floor's driver: {error}");
        let poll = Poll::new().map_err(describe)?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)
            .map_err(|error| format!("the floor's driver has no timer: {error}"))?;
        poll.registry()
            .register(&mut SourceFd(&timer.as_fd().as_raw_fd()), TIMER, Interest::READABLE)
            .map_err(describe)?;
        let bar = progress::bar(shape.quiet, shape.connections() as u64, "connecting");
        let mut connections = Vec::with_capacity(shape.connections());
        let mut senders = Vec::new();
        for index in 0..shape.connections() {
            interrupts.check()?;
            let (room, place) = (index as u32 / shape.room_size, index as u32 % shape.room_size);
            let stream = greet(address, room).map_err(|error| {
                format!(
                    "connection {} of {} to the floor's server: {error}; each takes a descriptor here and one there \
                     (ulimit -n)",
                    index + 1,
                    shape.connections()
                )
            })?;
            connections.push((stream, room));
            if place < shape.senders_per_room {
                senders.push(index);
            }
            bar.inc(1);
        }
        let mut ready_connections = Vec::with_capacity(connections.len());
        for (index, (stream, room)) in connections.into_iter().enumerate() {
            let stream = greeted(stream).map_err(|error| format!("the floor's server has not greeted: {error}"))?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry()
                .register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)
                .map_err(describe)?;
            ready_connections.push(DrivenConnection {
                stream,
                room,
                progress: 0,
                header: [0; HEADER_BYTES],
                received: 0,
                outbox: Vec::new(),
                credit: 0,
            });
        }
        bar.finish_and_clear();
        let total = Duration::from_secs_f64(shape.warm_up_s + shape.seconds);
        let plan = match shape.load {
            FloorLoad::Open { rate } => {
                let spacing = if shape.even { Spacing::Even } else { Spacing::Poisson };
                let (offset, ramp) = (0.0, Duration::ZERO);
                Some(Plan::new(PlanOptions { rate, offset, ramp, duration: total, spacing, seed: shape.seed }))
            }
            FloorLoad::Closed { .. } => None,
        };
        Ok(Self {
            shape,
            interrupts,
            server: watched.server.map(|pid| ProcessMeter::new(vec![pid as i32])),
            store: watched.store,
            poll,
            timer,
            epoch: Instant::now(),
            connections: ready_connections,
            ready: Vec::new(),
            senders,
            plan,
            random: SmallRng::seed_from_u64(shape.seed),
            sent_in_room: vec![0; shape.rooms as usize],
            messages: 0,
            acked: 0,
            deliveries: 0,
            sending: true,
            latencies: None,
            measured_from_ns: 0,
            bar: progress::run_bar(shape.quiet, total.as_millis() as u64),
            message: vec![0; shape.bytes_in],
        })
    }

    fn run(&mut self) -> Result<DriveFigures, String> {
        self.epoch = Instant::now();
        if let FloorLoad::Closed { window } = self.shape.load {
            self.ready.clone_from(&self.senders);
            for sender in &self.senders {
                self.connections[*sender].credit = window;
            }
        }
        let mut scratch = vec![0; READ_BYTES].into_boxed_slice();
        let mut events = Events::with_capacity(1024);
        let measure_from = self.epoch + Duration::from_secs_f64(self.shape.warm_up_s);
        let measure_until = measure_from + Duration::from_secs_f64(self.shape.seconds);
        self.run_until(measure_from, &mut events, &mut scratch)?;
        let before = self.reading()?;
        // The reading has delayed sends that were due meanwhile, and the server did not cause that.
        self.measured_from_ns = self.epoch.elapsed().as_nanos() as u64;
        self.latencies = Some(FloorLatencies { delivery: histogram()?, ack: histogram()? });
        self.run_until(measure_until, &mut events, &mut scratch)?;
        let latencies = self.latencies.take();
        let after = self.reading()?;
        self.sending = false;
        self.drain(&mut events, &mut scratch)?;
        self.found(&before, &after, &latencies.ok_or("no latencies were recorded")?)
    }

    fn found(
        &self,
        before: &FloorReading,
        after: &FloorReading,
        latencies: &FloorLatencies,
    ) -> Result<DriveFigures, String> {
        let deliveries = after.deliveries - before.deliveries;
        if deliveries == 0 {
            return Err("nothing arrived in the measured time: raise the rate or the duration".to_owned());
        }
        let spent = |before: &Option<Sample>, after: &Option<Sample>| Some(after.as_ref()?.since(before.as_ref()?));
        let server = spent(&before.server, &after.server);
        let ns = |cpu: Option<Duration>| cpu.unwrap_or_default().as_nanos() as u64;
        Ok(DriveFigures {
            seconds: (after.at - before.at).as_secs_f64(),
            messages: after.messages - before.messages,
            acked: after.acked - before.acked,
            deliveries,
            server_ns: ns(server.as_ref().map(|server| server.cpu)),
            main_thread_ns: ns(server.map(|server| server.main_threads_cpu)),
            store_ns: ns(spent(&before.store, &after.store).map(|store| store.cpu)),
            driver_ns: after.driver_ns - before.driver_ns,
            delivery: Percentiles::of(&latencies.delivery),
            ack: Percentiles::of(&latencies.ack),
            messages_in_all: self.messages,
        })
    }

    fn reading(&mut self) -> Result<FloorReading, String> {
        let server = self.server.as_mut().map(ProcessMeter::sample);
        let store = self.store.map(|meter| meter.lock().unwrap_or_else(PoisonError::into_inner).sample());
        for (sample, whose) in [(&server, "server"), (&store, "PostgreSQL")] {
            if sample.as_ref().is_some_and(|sample| sample.processes() == 0) {
                return Err(format!("the CPU of the floor's {whose} cannot be read from /proc"));
            }
        }
        Ok(FloorReading {
            at: Instant::now(),
            deliveries: self.deliveries,
            messages: self.messages,
            acked: self.acked,
            server,
            store,
            driver_ns: thread::cpu_ns(),
        })
    }

    fn run_until(&mut self, end: Instant, events: &mut Events, scratch: &mut [u8]) -> Result<(), String> {
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            self.send_due()?;
            self.turn(events, scratch, (end - now).min(LOOK))?;
        }
    }

    /// Waits until every message has reached every member.
    fn drain(&mut self, events: &mut Events, scratch: &mut [u8]) -> Result<(), String> {
        let expected = self.messages * u64::from(self.shape.room_size);
        let (mut seen, mut since) = (self.deliveries, Instant::now());
        while self.deliveries < expected && since.elapsed() < DRAIN_PATIENCE {
            self.turn(events, scratch, LOOK)?;
            if self.deliveries > seen {
                (seen, since) = (self.deliveries, Instant::now());
            }
        }
        for (index, connection) in self.connections.iter().enumerate() {
            let sent = self.sent_in_room[connection.room as usize];
            if connection.received != sent || connection.progress != 0 {
                return Err(format!(
                    "{sent} messages were sent in room {}, {} arrived at its connection {index}: the floor is faulty",
                    connection.room, connection.received
                ));
            }
        }
        Ok(())
    }

    /// Waits for events and handles them.
    fn turn(&mut self, events: &mut Events, scratch: &mut [u8], wait: Duration) -> Result<(), String> {
        self.interrupts.check()?;
        match self.poll.poll(events, Some(wait)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other.map_err(|error| format!("the floor's driver: {error}"))?,
        }
        for event in &*events {
            let index = event.token().0;
            if event.token() == TIMER {
                // Only clears the timer; the clock tells which sends are due.
                let _ = self.timer.wait();
                continue;
            }
            if event.is_writable() && !self.connections[index].outbox.is_empty() {
                self.flush(index)?;
            }
            if event.is_readable() {
                self.receive(index, scratch)?;
            }
        }
        self.bar.set_position(self.epoch.elapsed().as_millis() as u64);
        Ok(())
    }

    fn receive(&mut self, index: usize, scratch: &mut [u8]) -> Result<(), String> {
        loop {
            match self.connections[index].stream.read(scratch) {
                Ok(0) => return Err("the floor's server has closed a connection".to_owned()),
                Ok(count) => {
                    self.take(index, &scratch[..count])?;
                    if count < scratch.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(format!("a connection to the floor's server was lost: {error}")),
            }
        }
    }

    /// Counts the messages that these bytes complete.
    fn take(&mut self, index: usize, mut bytes: &[u8]) -> Result<(), String> {
        let now_ns = self.epoch.elapsed().as_nanos() as u64;
        while !bytes.is_empty() {
            let connection = &mut self.connections[index];
            let taken = (self.shape.bytes_out - connection.progress).min(bytes.len());
            if connection.progress < HEADER_BYTES {
                let part = taken.min(HEADER_BYTES - connection.progress);
                connection.header[connection.progress..connection.progress + part].copy_from_slice(&bytes[..part]);
            }
            connection.progress += taken;
            bytes = &bytes[taken..];
            if connection.progress < self.shape.bytes_out {
                break;
            }
            connection.progress = 0;
            connection.received += 1;
            let (planned_ns, sender) = read_header(connection.header);
            let room = connection.room;
            if self.connections.get(sender as usize).is_none_or(|sender| sender.room != room) {
                return Err(format!(
                    "a message of connection {sender} has arrived in room {room}: the floor is faulty"
                ));
            }
            self.deliveries += 1;
            let is_ack = sender as usize == index;
            self.acked += u64::from(is_ack);
            if let Some(latencies) = &mut self.latencies
                && planned_ns >= self.measured_from_ns
            {
                let latency_us = now_ns.saturating_sub(planned_ns) / 1000;
                latencies.delivery.saturating_record(latency_us);
                if is_ack {
                    latencies.ack.saturating_record(latency_us);
                }
            }
            if is_ack && self.plan.is_none() {
                if self.connections[index].credit == 0 {
                    self.ready.push(index);
                }
                self.connections[index].credit += 1;
            }
        }
        Ok(())
    }

    /// Sends what the plan or the windows allow now.
    fn send_due(&mut self) -> Result<(), String> {
        if !self.sending {
            return Ok(());
        }
        while let Some(sender) = self.ready.pop() {
            let credit = std::mem::take(&mut self.connections[sender].credit);
            let now_ns = self.epoch.elapsed().as_nanos() as u64;
            for _ in 0..credit {
                self.enqueue(sender, now_ns);
            }
            self.flush(sender)?;
        }
        let Some(mut plan) = self.plan.take() else { return Ok(()) };
        let mut next = plan.peek_ns();
        while let Some(planned_ns) = next {
            let now_ns = self.epoch.elapsed().as_nanos() as u64;
            if planned_ns > now_ns {
                let wait = TimeSpec::from_duration(Duration::from_nanos(planned_ns - now_ns));
                self.timer
                    .set(Expiration::OneShot(wait), TimerSetTimeFlags::empty())
                    .map_err(|error| format!("the floor's driver cannot set its timer: {error}"))?;
                break;
            }
            let sender = self.senders[self.random.random_range(0..self.senders.len())];
            self.enqueue(sender, planned_ns);
            self.flush(sender)?;
            plan.advance();
            next = plan.peek_ns();
        }
        self.plan = Some(plan);
        Ok(())
    }

    fn enqueue(&mut self, sender: usize, planned_ns: u64) {
        let connection = &mut self.connections[sender];
        self.message[..HEADER_BYTES].copy_from_slice(&write_header(planned_ns, sender as u32));
        connection.outbox.extend_from_slice(&self.message);
        self.sent_in_room[connection.room as usize] += 1;
        self.messages += 1;
    }

    fn flush(&mut self, index: usize) -> Result<(), String> {
        let connection = &mut self.connections[index];
        while !connection.outbox.is_empty() {
            match connection.stream.write(&connection.outbox) {
                Ok(count) => drop(connection.outbox.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(format!("a connection to the floor's server was lost: {error}")),
            }
        }
        if connection.outbox.len() > OUTBOX_BYTES_MAX {
            return Err("the floor cannot keep this rate: lower it, or use a window".to_owned());
        }
        Ok(())
    }
}

fn greet(address: SocketAddr, room: u32) -> io::Result<std::net::TcpStream> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(GREETING_TIMEOUT))?;
    stream.write_all(&room.to_le_bytes())?;
    Ok(stream)
}

fn greeted(mut stream: std::net::TcpStream) -> io::Result<std::net::TcpStream> {
    stream.read_exact(&mut [0; GREETING_BYTES])?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}
