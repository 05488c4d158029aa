//! The sockets of a shard over loopback, with descriptors of the process and with entries of the ring's table: both end
//! in the same way, and what the kernel still holds of one connection never reaches the next.

use super::*;
use crate::net::table::DirectTable;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};

const TURNS_MAX: usize = 200;

struct Fixture {
    sockets: Sockets,
    held: Arc<AtomicUsize>,
    listener: TcpListener,
    events: Vec<SocketEvent>,
}

impl Fixture {
    fn new(entries: u32) -> Self {
        let held = Arc::<AtomicUsize>::default();
        let doorbell = nix::sys::eventfd::EventFd::new().unwrap().as_fd().try_clone_to_owned().unwrap();
        let table = DirectTable { entries, held: Arc::clone(&held) };
        let sockets = Sockets::new(ShardId(0), doorbell, Arc::default(), table).unwrap();
        Self { sockets, held, listener: TcpListener::bind("127.0.0.1:0").unwrap(), events: Vec::new() }
    }

    /// A connection that receives, and its peer.
    fn connect(&mut self) -> (ConnId, TcpStream) {
        let peer = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let conn = self.sockets.adopt(self.listener.accept().unwrap().0.into());
        self.sockets.set_nodelay(conn);
        self.sockets.keep(conn);
        self.sockets.receive_stream(conn);
        (conn, peer)
    }

    /// One turn. With events at hand it would not wait, so they are set aside.
    fn turn_or_wait(&mut self) {
        let mut new = Vec::new();
        self.sockets.turn_or_wait(&mut new).unwrap();
        self.events.append(&mut new);
    }

    /// Entries of the table that are in use; those that were emptied count until the next turn.
    fn held(&mut self) -> usize {
        self.sockets.turn(&mut self.events).unwrap();
        self.held.load(Ordering::Relaxed)
    }

    /// Turns until an event is `wanted`; ticks pass meanwhile.
    fn wait(&mut self, wanted: impl Fn(&SocketEvent) -> bool) -> SocketEvent {
        for _ in 0..TURNS_MAX {
            if let Some(at) = self.events.iter().position(&wanted) {
                return self.events.remove(at);
            }
            self.turn_or_wait();
        }
        panic!("no such event among {:?}", self.events);
    }

    fn wait_for_end(&mut self, conn: ConnId) {
        self.wait(|event| matches!(event, SocketEvent::Ended(ended) if *ended == conn));
    }

    fn received(&mut self, conn: ConnId) -> Vec<u8> {
        match self.wait(|event| matches!(event, SocketEvent::Received(from, _) if *from == conn)) {
            SocketEvent::Received(_, bytes) => bytes.to_vec(),
            _ => Vec::new(),
        }
    }
}

/// Plays `story` with descriptors, with a table, and with a table that is too small.
fn with_and_without_a_table(story: impl Fn(&mut Fixture)) {
    for entries in [0, 64, 1] {
        story(&mut Fixture::new(entries));
    }
}

#[test]
fn a_socket_of_the_table_takes_no_descriptor() {
    let mut fixture = Fixture::new(2);
    let descriptors =
        |sockets: &Sockets| sockets.slots.iter().filter(|slot| matches!(slot.handle, Handle::Descriptor(_))).count();
    let connected: Vec<_> = (0..3).map(|_| fixture.connect()).collect();
    assert_eq!((fixture.held(), descriptors(&fixture.sockets)), (2, 1), "the table has two");
    for (conn, peer) in connected {
        assert_eq!(fixture.sockets.detach(conn).map(drop), None, "its receive is in the kernel");
        drop(peer);
        fixture.wait_for_end(conn);
    }
    assert_eq!((fixture.held(), descriptors(&fixture.sockets)), (0, 0));
}

#[test]
fn carries_bytes_in_both_directions() {
    with_and_without_a_table(|fixture| {
        let mut connected: Vec<_> = (0..3).map(|_| fixture.connect()).collect();
        for (number, (conn, peer)) in connected.iter_mut().enumerate() {
            peer.write_all(&[number as u8; 3]).unwrap();
            assert_eq!(fixture.received(*conn), [number as u8; 3]);
            for part in [b"one ", b"two "] {
                fixture.sockets.send(*conn, Chunk::from(part.to_vec()));
            }
            fixture.wait(|event| matches!(event, SocketEvent::Drained(drained) if drained == conn));
            let mut bytes = [0; 8];
            peer.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"one two ");
        }
    });
}

#[test]
fn finishes_with_everything_sent_and_waits_for_the_peer() {
    with_and_without_a_table(|fixture| {
        let (conn, mut peer) = fixture.connect();
        fixture.sockets.send(conn, Chunk::from(b"the last".to_vec()));
        fixture.sockets.finish(conn);
        fixture.sockets.turn(&mut fixture.events).unwrap();
        // The kernel may shut down in a thread of its own.
        let reader = peer.try_clone().unwrap();
        let read = std::thread::spawn(move || std::io::read_to_string(reader).unwrap());
        while !read.is_finished() {
            fixture.turn_or_wait();
        }
        assert_eq!(read.join().unwrap(), "the last");
        assert!(!fixture.events.iter().any(|event| matches!(event, SocketEvent::Ended(_))), "the peer's half is open");
        peer.write_all(b"late").unwrap();
        drop(peer);
        fixture.wait_for_end(conn);
        assert_eq!((fixture.sockets.open_connections(), fixture.held()), (0, 0));
    });
}

#[test]
fn aborts_while_the_kernel_receives_and_sends() {
    with_and_without_a_table(|fixture| {
        let (conn, mut peer) = fixture.connect();
        // More than the buffers of both sockets hold: the send stays in the kernel.
        fixture.sockets.send(conn, Chunk::from(vec![7; 64 << 20]));
        fixture.sockets.turn(&mut fixture.events).unwrap();
        fixture.sockets.abort(conn);
        fixture.wait_for_end(conn);
        // The next connection has the slot, and the entry.
        let (next, mut next_peer) = fixture.connect();
        assert_eq!((next.slot(), next == conn), (conn.slot(), false));
        next_peer.write_all(b"mine").unwrap();
        assert_eq!(fixture.received(next), b"mine");
        let mut rest = Vec::new();
        match peer.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.iter().all(|byte| *byte == 7)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    });
}

#[test]
fn aborts_a_connection_whose_last_bytes_are_not_read() {
    with_and_without_a_table(|fixture| {
        let (conn, _peer) = fixture.connect();
        fixture.sockets.send(conn, Chunk::from(vec![7; 64 << 20]));
        fixture.sockets.finish(conn);
        fixture.sockets.turn(&mut fixture.events).unwrap();
        fixture.sockets.refuse_input(conn);
        fixture.sockets.abort(conn);
        fixture.sockets.abort(conn);
        fixture.wait_for_end(conn);
        assert_eq!(fixture.sockets.open_connections(), 0);
    });
}

#[test]
fn ends_many_connections_at_once_while_their_peers_send() {
    with_and_without_a_table(|fixture| {
        for _ in 0..10 {
            let connected: Vec<_> = (0..100).map(|_| fixture.connect()).collect();
            let mut writers: Vec<_> = connected.iter().map(|(_, peer)| peer.try_clone().unwrap()).collect();
            // A receive may be about to complete when it is cancelled.
            let sender = std::thread::spawn(move || {
                while !writers.is_empty() {
                    writers.retain_mut(|writer| writer.write_all(b"x").is_ok());
                }
            });
            fixture.turn_or_wait();
            for (number, (conn, peer)) in connected.iter().enumerate() {
                match number % 3 {
                    0 => peer.shutdown(Shutdown::Both).unwrap(),
                    1 => fixture.sockets.abort(*conn),
                    _ => fixture.sockets.finish(*conn),
                }
            }
            // Those that are finished go on receiving until their deadline.
            for _ in 0..5 {
                fixture.turn_or_wait();
            }
            for (conn, _) in &connected {
                fixture.sockets.abort(*conn);
            }
            for _ in 0..TURNS_MAX {
                if fixture.sockets.open_connections() == 0 {
                    break;
                }
                fixture.turn_or_wait();
            }
            sender.join().unwrap();
            let ended = fixture.events.drain(..).filter(|event| matches!(event, SocketEvent::Ended(_))).count();
            assert_eq!((ended, fixture.held()), (100, 0));
        }
    });
}
