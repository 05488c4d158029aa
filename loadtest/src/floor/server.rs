//! The server of the socket floor and of the bare loop: an epoll loop that receives messages and sends each to every
//! socket of its room.
//!
//! In the socket floor it sends a message as soon as it has read it. In the bare loop it holds the message until the
//! [`Committer`] has committed its row.
//!
//! Invariants:
//! - one thread, one `read` per readable connection and turn (a short read means that nothing is left, which saves the
//!   second call), one `write` per delivery or per socket and turn. With one more call it would not be the floor;
//! - bytes that a full socket does not accept wait in a bounded backlog. While one backlog exceeds
//!   [`BACKLOG_BYTES_MAX`], the server reads nothing more, so that senders slow down and memory stays bounded. The same
//!   applies while [`HELD_MAX`] messages wait for their commit.
//!
//! [`HELD_MAX`]: super::committer::HELD_MAX

use super::committer::{Commits, Committer, ReadyLoader};
use super::loader::SenderOfRow;
use super::wire::{GREETING_BYTES, READ_BYTES, Sending};
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Longest backlog of one socket before the server stops reading, bytes.
const BACKLOG_BYTES_MAX: usize = 4 << 20;
/// Most bytes that a room collects in one turn before they are sent.
const GATHERED_BYTES_MAX: usize = 256 * 1024;
/// Pieces of a backlog in one vectored write.
const PIECES_MAX: usize = 64;
/// If no client has connected by then, the process that started the server is gone.
const FIRST_CONNECTION_MAX: Duration = Duration::from_secs(30);
const LISTENER: Token = Token(usize::MAX);
const COMMITTED: Token = Token(usize::MAX - 1);

/// What the server needs to know.
#[derive(Clone, Debug, clap::Args)]
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
    /// Cores to run on
    #[arg(long, value_delimiter = ',')]
    pub cores: Vec<usize>,
    /// Commit each message before it is sent: the directory of the private PostgreSQL. The rooms are read from stdin
    #[arg(long)]
    pub store: Option<PathBuf>,
    /// Connections that commit
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// Characters of a message's content in PostgreSQL
    #[arg(long, default_value_t = 1)]
    pub content_bytes: usize,
}

/// Serves until the last connection closes. With loaders it is the bare loop, and returns what they committed.
///
/// # Errors
/// When the poller, the listener or the loader fails; a connection's fault ends that connection.
pub fn serve(
    listener: std::net::TcpListener,
    options: &FloorServerOptions,
    loaders: Vec<ReadyLoader>,
) -> Result<Commits, String> {
    let describe = |error: io::Error| format!("the floor's server: {error}");
    listener.set_nonblocking(true).map_err(describe)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new().map_err(describe)?;
    let mut events = Events::with_capacity(1024);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).map_err(describe)?;
    let mut server = FloorServer::new(options);
    let waker = Arc::new(Waker::new(poll.registry(), COMMITTED).map_err(describe)?);
    let held_bytes = options.bytes_in.min(options.bytes_out);
    for loader in loaders {
        let committer = Committer::start(loader, held_bytes, Arc::clone(&waker)).map_err(describe)?;
        server.committers.push(committer);
    }
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
            match event.token() {
                LISTENER => {
                    server.accept(&listener, &poll).map_err(describe)?;
                    connected = true;
                }
                COMMITTED => server.release(),
                _ => server.handle(event, &mut scratch),
            }
        }
        server.end_turn(&mut scratch);
        let loader_failed = server.committers.iter().any(Committer::has_ended);
        if loader_failed || (connected && server.open == 0) {
            let all = |sum: Commits, committer: Committer| Ok(sum.plus(committer.finish()?));
            return server.committers.into_iter().try_fold(Commits::default(), all);
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
    /// Its place, once it has greeted.
    place: Option<SenderOfRow>,
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
    /// Connections that became readable while the server was paused.
    deferred: Vec<usize>,
    open: usize,
    /// Of the bare loop: one for each connection to PostgreSQL.
    committers: Vec<Committer>,
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
            committers: Vec::new(),
        }
    }

    /// Whether the server reads nothing until a backlog has shrunk or a batch is committed.
    fn is_paused(&self) -> bool {
        self.congested > 0 || self.committers.iter().any(Committer::is_full)
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
                place: None,
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
            if self.is_paused() {
                self.deferred.push(index);
            } else {
                self.receive(index, scratch);
            }
        }
    }

    /// Sends the collected messages, and reads again from connections that had to wait.
    fn end_turn(&mut self, scratch: &mut [u8]) {
        loop {
            // First, so that PostgreSQL works while the loop sends.
            self.committers.iter_mut().for_each(Committer::submit);
            self.send_gathered();
            if self.is_paused() {
                return;
            }
            let Some(index) = self.deferred.pop() else { return };
            self.receive(index, scratch);
        }
    }

    /// Sends, or collects for this turn, the messages that have been committed.
    fn release(&mut self) {
        let mut committers = std::mem::take(&mut self.committers);
        let mut message = Vec::new();
        for committer in &mut committers {
            while let Some(room) = committer.next_committed(&mut message) {
                self.gather(room, &message);
            }
        }
        self.committers = committers;
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
                    // A sender that is faster than this loop would otherwise keep it reading without an end.
                    if self.is_paused() {
                        return self.deferred.push(index);
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
        let Some(place) = self.connections[index].place else {
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
            self.message(place, &whole);
        }
        let messages = bytes.chunks_exact(self.bytes_in);
        let rest = messages.remainder();
        for message in messages {
            self.message(place, message);
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
        if self.rooms.len() <= room {
            self.rooms.resize_with(room + 1, FloorRoom::default);
        }
        let members = &mut self.rooms[room].members;
        connection.place = Some(SenderOfRow { room, member: members.len() });
        members.push(index);
        self.send(index, &greeting, &mut None);
    }

    fn message(&mut self, place: SenderOfRow, message: &[u8]) {
        match self.committers.len() {
            0 => self.gather(place.room, message),
            count => self.committers[place.room % count].hold(place, message),
        }
    }

    /// Collects a message for its room, or sends it at once.
    fn gather(&mut self, room: usize, message: &[u8]) {
        let copied = &message[..message.len().min(self.bytes_out)];
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
        if let Some(SenderOfRow { room, .. }) = connection.place {
            self.rooms[room].members.retain(|member| *member != index);
        }
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
pub(super) mod tests;
