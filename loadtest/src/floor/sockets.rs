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
//! Invariants:
//! - one thread, one `read` per readable connection and turn (a short read means that nothing is left, which saves the
//!   second call), one `write` per delivery or per socket and turn. With one more call it would not be the floor;
//! - bytes that a full socket does not accept wait in a bounded backlog. While one backlog exceeds
//!   [`BACKLOG_BYTES_MAX`], the server reads nothing more, so that senders slow down and memory stays bounded.

use super::drive;
use super::wire::{GREETING_BYTES, READ_BYTES};
use crate::run::{Interrupts, PARENT};
use crate::setup::pin::pin;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

pub use super::drive::{FloorLoad, Shape, SocketFloor};
pub use super::wire::Sending;

/// Longest backlog of one socket before the server stops reading, bytes.
const BACKLOG_BYTES_MAX: usize = 4 << 20;
/// Most bytes that a room collects in one turn before they are sent.
const GATHERED_BYTES_MAX: usize = 256 * 1024;
/// Pieces of a backlog in one vectored write.
const PIECES_MAX: usize = 64;
/// If no client has connected by then, the process that started the server is gone.
const FIRST_CONNECTION_MAX: Duration = Duration::from_secs(30);
/// What the server process prints before its address.
const LISTENING: &str = "listening ";

const LISTENER: Token = Token(usize::MAX);

/// What the server needs to know.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct FloorServerOptions {
    /// Where to listen; port 0 lets the system choose
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// How to send
    #[arg(long, value_enum)]
    pub sending: Sending,
    /// Bytes of a message received
    #[arg(long)]
    pub bytes_in: usize,
    /// Bytes of a message sent
    #[arg(long)]
    pub bytes_out: usize,
    /// Core to run on
    #[arg(long)]
    pub core: Option<usize>,
}

/// Runs as the server process: prints its address to stdout and serves until the last connection closes.
///
/// # Errors
/// What failed.
pub fn run_server(options: &FloorServerOptions) -> Result<(), String> {
    if let Some(core) = options.core {
        pin(&[core])?;
    }
    let listener = std::net::TcpListener::bind(options.listen)
        .map_err(|error| format!("the floor's server cannot listen on {}: {error}", options.listen))?;
    let address = listener.local_addr().map_err(|error| format!("the floor's server has no address: {error}"))?;
    println!("{LISTENING}{address}");
    serve(listener, options)
}

/// Measures the floor for one shape of work: starts the server as its own process and drives it.
///
/// # Errors
/// What failed, or which message did not arrive.
pub fn measure(shape: &Shape, interrupts: &Interrupts) -> Result<SocketFloor, String> {
    shape.validate()?;
    let mut server = ServerProcess::start(shape)?;
    let (address, pid) = (server.address, server.child.id());
    // Its own thread, so that its CPU and its core are not shared.
    let found = std::thread::scope(|scope| {
        let driver = scope.spawn(|| drive::drive(shape, address, Some(pid), interrupts));
        driver.join().unwrap_or_else(|_| Err("the driving thread has panicked".to_owned()))
    });
    match found {
        Ok(found) => server.join().map(|()| found),
        // The server's reason for its end explains more than what its client saw.
        Err(error) => Err(server.join().err().unwrap_or(error)),
    }
}

struct ServerProcess {
    child: Child,
    address: SocketAddr,
}

impl ServerProcess {
    fn start(shape: &Shape) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| format!("cannot find the own program: {error}"))?;
        let sending = match shape.sending {
            Sending::PerDelivery => "per-delivery",
            Sending::Coalesced => "coalesced",
        };
        let mut command = Command::new(program);
        command.args(["floor-server", "--sending", sending]);
        command.args(["--bytes-in", &shape.bytes_in.to_string(), "--bytes-out", &shape.bytes_out.to_string()]);
        if let Some([server, _]) = shape.cores {
            command.args(["--core", &server.to_string()]);
        }
        // It ends with its last connection, and so needs no other sign of its parent's end.
        let mut child = command
            .env_remove(PARENT)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start the floor's server: {error}"))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            // If there is no line, the process has ended, and its exit status says why.
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        match line.trim_end().strip_prefix(LISTENING).and_then(|address| address.parse().ok()) {
            Some(address) => Ok(Self { child, address }),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                Err(format!("the floor's server did not say where it listens, but {line:?}"))
            }
        }
    }

    /// Waits for the server's end, which follows the end of its last connection.
    fn join(&mut self) -> Result<(), String> {
        let status = self.child.wait().map_err(|error| format!("the floor's server: {error}"))?;
        if status.success() { Ok(()) } else { Err(format!("the floor's server has ended with {status}")) }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // The process has usually ended by now; then both calls have no effect.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until the last connection closes.
///
/// # Errors
/// When the poller or the listener fails; a connection's fault ends that connection.
pub fn serve(listener: std::net::TcpListener, options: &FloorServerOptions) -> Result<(), String> {
    let describe = |error: io::Error| format!("the floor's server: {error}");
    listener.set_nonblocking(true).map_err(describe)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new().map_err(describe)?;
    let mut events = Events::with_capacity(1024);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).map_err(describe)?;
    let mut server = FloorServer::new(options);
    let mut scratch = vec![0; READ_BYTES].into_boxed_slice();
    let mut connected = false;
    loop {
        match poll.poll(&mut events, (!connected).then_some(FIRST_CONNECTION_MAX)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(describe(error)),
            Ok(()) if !connected && events.is_empty() => {
                return Err("the floor's server: no client has connected".to_owned());
            }
            Ok(()) => {}
        }
        for event in &events {
            if event.token() == LISTENER {
                server.accept(&listener, &poll).map_err(describe)?;
                connected = true;
            } else {
                server.handle(event, &mut scratch);
            }
        }
        server.end_turn(&mut scratch);
        if connected && server.open == 0 {
            return Ok(());
        }
    }
}

/// Shared bytes for one socket, and how many of them are written.
struct Piece {
    bytes: Rc<[u8]>,
    gone: usize,
}

struct ServedConnection {
    /// `None` when it has ended.
    stream: Option<TcpStream>,
    room: Option<usize>,
    /// The start of an incomplete message or greeting.
    partial: Vec<u8>,
    backlog: VecDeque<Piece>,
    backlog_bytes: usize,
}

#[derive(Default)]
struct FloorRoom {
    members: Vec<usize>,
    /// The messages of this turn.
    gathered: Vec<u8>,
}

struct FloorServer {
    sending: Sending,
    bytes_in: usize,
    bytes_out: usize,
    connections: Vec<ServedConnection>,
    rooms: Vec<FloorRoom>,
    /// Rooms with messages in this turn.
    busy: Vec<usize>,
    /// Connections whose backlog is over the limit.
    congested: usize,
    /// Connections that became readable while a backlog was over the limit.
    deferred: Vec<usize>,
    open: usize,
}

impl FloorServer {
    fn new(options: &FloorServerOptions) -> Self {
        Self {
            sending: options.sending,
            bytes_in: options.bytes_in,
            bytes_out: options.bytes_out,
            connections: Vec::new(),
            rooms: Vec::new(),
            busy: Vec::new(),
            congested: 0,
            deferred: Vec::new(),
            open: 0,
        }
    }

    fn accept(&mut self, listener: &TcpListener, poll: &Poll) -> io::Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => continue,
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let token = Token(self.connections.len());
            poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            self.connections.push(ServedConnection {
                stream: Some(stream),
                room: None,
                partial: Vec::new(),
                backlog: VecDeque::new(),
                backlog_bytes: 0,
            });
            self.open += 1;
        }
    }

    fn handle(&mut self, event: &Event, scratch: &mut [u8]) {
        let index = event.token().0;
        if event.is_writable() && !self.connections[index].backlog.is_empty() {
            self.flush(index);
        }
        if event.is_readable() {
            if self.congested > 0 {
                self.deferred.push(index);
            } else {
                self.receive(index, scratch);
            }
        }
    }

    /// Sends the collected messages, and reads again from connections that had to wait.
    fn end_turn(&mut self, scratch: &mut [u8]) {
        self.send_gathered();
        while self.congested == 0
            && let Some(index) = self.deferred.pop()
        {
            self.receive(index, scratch);
            self.send_gathered();
        }
    }

    fn receive(&mut self, index: usize, scratch: &mut [u8]) {
        loop {
            let Some(stream) = &mut self.connections[index].stream else { return };
            match stream.read(scratch) {
                Ok(0) => return self.close(index),
                Ok(count) => {
                    self.take(index, &scratch[..count]);
                    if count < scratch.len() {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.close(index),
            }
        }
    }

    /// Cuts bytes into messages.
    fn take(&mut self, index: usize, mut bytes: &[u8]) {
        let Some(room) = self.connections[index].room else {
            return self.greet(index, bytes);
        };
        let partial = &mut self.connections[index].partial;
        if !partial.is_empty() {
            let missing = (self.bytes_in - partial.len()).min(bytes.len());
            partial.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            if partial.len() < self.bytes_in {
                return;
            }
            let whole = std::mem::take(partial);
            self.message(room, &whole);
        }
        let messages = bytes.chunks_exact(self.bytes_in);
        let rest = messages.remainder();
        for message in messages {
            self.message(room, message);
        }
        self.connections[index].partial.extend_from_slice(rest);
    }

    /// The client waits for the answer before it sends anything else, so nothing follows the greeting.
    fn greet(&mut self, index: usize, bytes: &[u8]) {
        let connection = &mut self.connections[index];
        connection.partial.extend_from_slice(bytes);
        let Ok(greeting) = <[u8; GREETING_BYTES]>::try_from(connection.partial.as_slice()) else { return };
        connection.partial.clear();
        let room = u32::from_le_bytes(greeting) as usize;
        connection.room = Some(room);
        if self.rooms.len() <= room {
            self.rooms.resize_with(room + 1, FloorRoom::default);
        }
        self.rooms[room].members.push(index);
        self.send(index, &greeting, &mut None);
    }

    fn message(&mut self, room: usize, message: &[u8]) {
        let copied = &message[..self.bytes_in.min(self.bytes_out)];
        let gathered = &mut self.rooms[room].gathered;
        if gathered.is_empty() {
            self.busy.push(room);
        }
        let end = gathered.len() + self.bytes_out;
        gathered.extend_from_slice(copied);
        gathered.resize(end, 0);
        if self.sending == Sending::PerDelivery || end >= GATHERED_BYTES_MAX {
            self.busy.pop_if(|busy| *busy == room);
            self.send_room(room);
        }
    }

    fn send_gathered(&mut self) {
        while let Some(room) = self.busy.pop() {
            self.send_room(room);
        }
    }

    fn send_room(&mut self, room: usize) {
        let mut gathered = std::mem::take(&mut self.rooms[room].gathered);
        if gathered.is_empty() {
            return;
        }
        let members = std::mem::take(&mut self.rooms[room].members);
        let mut shared = None;
        for member in &members {
            self.send(*member, &gathered, &mut shared);
        }
        gathered.clear();
        self.rooms[room].gathered = gathered;
        self.rooms[room].members = members;
    }

    /// Writes immediately, unless there is a backlog. Bytes that the socket does not accept are shared with other
    /// backlogs.
    fn send(&mut self, index: usize, bytes: &[u8], shared: &mut Option<Rc<[u8]>>) {
        let connection = &mut self.connections[index];
        let Some(stream) = &mut connection.stream else { return };
        let mut gone = 0;
        if connection.backlog.is_empty() {
            match stream.write(bytes) {
                Ok(count) if count == bytes.len() => return,
                Ok(count) => gone = count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => return self.close(index),
            }
        }
        let piece = shared.get_or_insert_with(|| Rc::from(bytes));
        connection.backlog.push_back(Piece { bytes: Rc::clone(piece), gone });
        self.count_backlog(index, (bytes.len() - gone) as isize);
        if gone > 0 {
            // The socket reports that it is writable only after it was full.
            self.flush(index);
        }
    }

    fn flush(&mut self, index: usize) {
        let pieces_max = if self.sending == Sending::Coalesced { PIECES_MAX } else { 1 };
        loop {
            let connection = &mut self.connections[index];
            let Some(stream) = &mut connection.stream else { return };
            if connection.backlog.is_empty() {
                return;
            }
            let slices: Vec<IoSlice> =
                connection.backlog.iter().take(pieces_max).map(|p| IoSlice::new(&p.bytes[p.gone..])).collect();
            let mut written = match stream.write_vectored(&slices) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.close(index),
            };
            self.count_backlog(index, -(written as isize));
            let backlog = &mut self.connections[index].backlog;
            while let Some(front) = backlog.front_mut() {
                let left = front.bytes.len() - front.gone;
                if written < left {
                    front.gone += written;
                    break;
                }
                written -= left;
                backlog.pop_front();
            }
        }
    }

    fn count_backlog(&mut self, index: usize, change: isize) {
        let bytes = &mut self.connections[index].backlog_bytes;
        let was_over = *bytes > BACKLOG_BYTES_MAX;
        *bytes = bytes.saturating_add_signed(change);
        let is_over = *bytes > BACKLOG_BYTES_MAX;
        match (was_over, is_over) {
            (false, true) => self.congested += 1,
            (true, false) => self.congested -= 1,
            _ => {}
        }
    }

    fn close(&mut self, index: usize) {
        self.count_backlog(index, isize::MIN);
        let connection = &mut self.connections[index];
        connection.stream = None;
        connection.backlog.clear();
        self.open -= 1;
        if let Some(room) = connection.room {
            self.rooms[room].members.retain(|member| *member != index);
        }
    }
}

#[cfg(test)]
#[path = "sockets_tests.rs"]
mod tests;
