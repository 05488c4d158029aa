//! The socket floor: a bare epoll loop that receives messages and sends each to every socket of its room.
//!
//! It is the least that a chat server can do, in two ways. [`Sending::PerDelivery`] writes each message to each socket
//! at once, as a server must when messages arrive one by one. [`Sending::Coalesced`] collects the messages of a room
//! during one turn of the loop and writes them to each socket with one call, as a server may when messages arrive
//! faster.
//!
//! The protocol, in numbered steps:
//! 1. The first [`GREETING_BYTES`] bytes of a connection are the number of its room, little endian. The server repeats
//!    them, so that a client knows when every member has joined.
//! 2. From then on each `bytes_in` bytes are one message. The server sends the first `bytes_out` bytes of it, padded
//!    with zeros if it is shorter, to every connection of the room, including the sender's.
//! 3. When the last connection has closed, the server ends.
//!
//! The loop itself is [`server`](super::server), in a process of its own; [`drive`](super::drive) plays its clients.

use super::committer::{Commits, ReadyLoader};
use super::drive::{self, DriveFigures, Watched};
use super::loader::RoomOfLoader;
use super::postgres::SAMPLE_INTERVAL;
use super::server::serve;
use super::summary::Percentiles;
use crate::measure::process::ProcessMeter;
use crate::run::{Interrupts, PARENT};
use crate::setup::pin::pin;
use chat_server::storage::embedded;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

pub use super::server::FloorServerOptions;
pub use super::shape::{FloorLoad, Shape};
pub use super::wire::Sending;

/// A measurement of the socket floor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SocketFloor {
    /// The shape of the work.
    pub shape: Shape,
    /// Measured, seconds.
    pub seconds: f64,
    /// Messages written in that time.
    pub messages: u64,
    /// Messages that arrived at a member in that time.
    pub deliveries: u64,
    /// The same per second.
    pub deliveries_per_s: f64,
    /// CPU of the server's process per delivery.
    pub server_cpu_us_per_delivery: f64,
    /// CPU of the server's process per message.
    pub server_cpu_us_per_message: f64,
    /// CPU of the server's process, in cores.
    pub server_cores: f64,
    /// CPU of the driver's thread, in cores; near 1.0 it was the limit.
    pub driver_cores: f64,
    /// Planned send → arrival at a member.
    pub delivery: Percentiles,
}

impl SocketFloor {
    fn of(shape: &Shape, found: &DriveFigures) -> Self {
        let server_us = found.server_ns as f64 / 1e3;
        Self {
            shape: shape.clone(),
            seconds: found.seconds,
            messages: found.messages,
            deliveries: found.deliveries,
            deliveries_per_s: found.deliveries as f64 / found.seconds,
            server_cpu_us_per_delivery: server_us / found.deliveries as f64,
            server_cpu_us_per_message: server_us / found.messages.max(1) as f64,
            server_cores: found.cores(found.server_ns),
            driver_cores: found.cores(found.driver_ns),
            delivery: found.delivery,
        }
    }
}

/// What the server process prints before its address.
const LISTENING: &str = "listening ";

/// The loaders of the bare loop, if the server is one.
fn loaders(options: &FloorServerOptions) -> Result<Vec<ReadyLoader>, String> {
    let Some(directory) = &options.store else { return Ok(Vec::new()) };
    let running = embedded::running(directory).ok_or("the floor's PostgreSQL does not run")?;
    let rooms: Vec<RoomOfLoader> = serde_json::from_reader(std::io::stdin().lock())
        .map_err(|error| format!("the rooms of the floor's server: {error}"))?;
    ReadyLoader::connect(&running.target(), options.connections, options.content_bytes, &rooms)
}

/// Runs as the server process: prints its address to stdout and serves until the last connection closes. With a store
/// it then prints what was committed.
///
/// # Errors
/// What failed.
pub fn run_server(options: &FloorServerOptions) -> Result<(), String> {
    if !options.cores.is_empty() {
        pin(&options.cores)?;
    }
    let loaders = loaders(options)?;
    let listener = std::net::TcpListener::bind(options.listen)
        .map_err(|error| format!("the floor's server cannot listen on {}: {error}", options.listen))?;
    let address = listener.local_addr().map_err(|error| format!("the floor's server has no address: {error}"))?;
    println!("{LISTENING}{address}");
    let commits = serve(listener, options, loaders)?;
    if options.store.is_some() {
        println!("{}", serde_json::to_string(&commits).map_err(|error| error.to_string())?);
    }
    Ok(())
}

/// Measures the floor for one shape of work.
///
/// # Errors
/// What failed, or which message did not arrive.
pub fn measure(shape: &Shape, interrupts: &Interrupts) -> Result<SocketFloor, String> {
    shape.validate()?;
    let server = ServerProcess::start(shape, None)?;
    run(shape, server, None, interrupts).map(|(found, _)| SocketFloor::of(shape, &found))
}

/// Drives a server until its end.
///
/// # Errors
/// What failed, or which message did not arrive.
pub(super) fn run(
    shape: &Shape,
    mut server: ServerProcess,
    store: Option<&Mutex<ProcessMeter>>,
    interrupts: &Interrupts,
) -> Result<(DriveFigures, Commits), String> {
    let address = server.address;
    let watched = Watched { server: Some(server.child.id()), store };
    // Its own thread, so that its CPU and its core are not shared.
    let found = std::thread::scope(|scope| {
        let driver = scope.spawn(|| drive::drive(shape, address, watched, interrupts));
        while let Some(store) = store
            && !driver.is_finished()
        {
            store.lock().unwrap_or_else(PoisonError::into_inner).sample();
            std::thread::sleep(SAMPLE_INTERVAL);
        }
        driver.join().unwrap_or_else(|_| Err("the driving thread has panicked".to_owned()))
    });
    match found {
        Ok(found) => server.join().map(|commits| (found, commits)),
        // The server's reason for its end explains more than what its client saw.
        Err(error) => Err(server.join().err().unwrap_or(error)),
    }
}

/// What the loop's process needs to commit.
pub struct StoreOfLoop<'a> {
    /// Where it finds PostgreSQL.
    pub directory: &'a Path,
    /// The rooms, numbered as the clients number them.
    pub rooms: &'a [RoomOfLoader],
    /// Connections that commit.
    pub connections: usize,
    /// Characters of a message's content.
    pub content_bytes: usize,
}

/// The server as a process of its own.
pub(super) struct ServerProcess {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    address: SocketAddr,
}

impl ServerProcess {
    /// Starts it; with a store it is the bare loop.
    pub(super) fn start(shape: &Shape, store: Option<&StoreOfLoop<'_>>) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| format!("cannot find the own program: {error}"))?;
        let mut command = Command::new(program);
        command.args(["floor-server", "--sending", shape.sending.name()]);
        command.args(["--bytes-in", &shape.bytes_in.to_string(), "--bytes-out", &shape.bytes_out.to_string()]);
        if let Some((server, _)) = shape.separate_cores() {
            let cores: Vec<String> = server.iter().map(usize::to_string).collect();
            command.args(["--cores", &cores.join(",")]);
        }
        if let Some(store) = store {
            command.arg("--store").arg(store.directory);
            command.args(["--content-bytes", &store.content_bytes.to_string()]);
            command.args(["--connections", &store.connections.to_string()]);
        }
        // It ends with its last connection, and so needs no other sign of its parent's end.
        let mut child = command
            .env_remove(PARENT)
            .stdin(if store.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start the floor's server: {error}"))?;
        if let (Some(stdin), Some(store)) = (child.stdin.take(), store) {
            // If it cannot be written, the process has ended, and its exit status says why.
            let _ = serde_json::to_writer(std::io::BufWriter::new(stdin), store.rooms);
        }
        let mut stdout = child.stdout.take().map(BufReader::new);
        let line = next_line(&mut stdout);
        match line.strip_prefix(LISTENING).and_then(|address| address.parse().ok()) {
            Some(address) => Ok(Self { child, stdout, address }),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                Err(format!("the floor's server did not say where it listens, but {line:?}"))
            }
        }
    }

    /// Waits for the server's end, which follows the end of its last connection.
    fn join(&mut self) -> Result<Commits, String> {
        let line = next_line(&mut self.stdout);
        let status = self.child.wait().map_err(|error| format!("the floor's server: {error}"))?;
        if !status.success() {
            return Err(format!("the floor's server has ended with {status}"));
        }
        if line.is_empty() {
            return Ok(Commits::default());
        }
        serde_json::from_str(&line).map_err(|error| format!("the floor's server printed {line:?}: {error}"))
    }
}

/// The next line of the server; empty when there is none, because it has ended.
fn next_line(stdout: &mut Option<BufReader<ChildStdout>>) -> String {
    let mut line = String::new();
    if let Some(stdout) = stdout {
        // A line that cannot be read is none.
        let _ = stdout.read_line(&mut line);
    }
    line.trim_end().to_owned()
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // The process has usually ended by now; then both calls have no effect.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
