//! The fan-out over real sockets: every byte sent arrives at every member, no matter how it is split and how slowly it
//! is read.

use super::*;
use crate::floor::drive::{self, Watched};
use crate::floor::sockets::{FloorLoad, Shape};
use crate::run::Interrupts;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::net::{Shutdown, SocketAddr, TcpStream as Socket};
use std::thread;

const WAYS: [Sending; 2] = [Sending::PerDelivery, Sending::Coalesced];

/// A listener, and the options of a server for it.
pub fn listener(
    sending: Sending,
    bytes_in: usize,
    bytes_out: usize,
) -> (std::net::TcpListener, SocketAddr, FloorServerOptions) {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = std::net::TcpListener::bind(listen).unwrap();
    let address = listener.local_addr().unwrap();
    let (cores, store, connections, content_bytes) = (Vec::new(), None, 1, 1);
    let options = FloorServerOptions { listen, sending, bytes_in, bytes_out, cores, store, connections, content_bytes };
    (listener, address, options)
}

/// A short drive of three rooms.
pub fn shape(load: FloorLoad, sending: Sending) -> Shape {
    Shape {
        rooms: 3,
        room_size: 5,
        senders_per_room: 2,
        load,
        even: false,
        bytes_in: 20,
        bytes_out: 33,
        sending,
        warm_up_s: 0.05,
        seconds: 0.4,
        seed: 3,
        cores: None,
        quiet: true,
    }
}

type Served = thread::JoinHandle<Result<Commits, String>>;

fn start(sending: Sending, bytes_in: usize, bytes_out: usize) -> (SocketAddr, Served) {
    let (listener, address, options) = listener(sending, bytes_in, bytes_out);
    (address, thread::spawn(move || serve(listener, &options, Vec::new())))
}

/// A member of a room.
pub fn join(address: SocketAddr, room: u32) -> Socket {
    let mut socket = Socket::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    socket.write_all(&room.to_le_bytes()).unwrap();
    let mut greeting = [0; GREETING_BYTES];
    socket.read_exact(&mut greeting).unwrap();
    assert_eq!(greeting, room.to_le_bytes());
    socket
}

pub fn random_bytes(random: &mut SmallRng, count: usize) -> Vec<u8> {
    (0..count).map(|_| random.random()).collect()
}

/// What a member must receive when these messages were sent in its room.
pub fn fanned_out(sent: &[u8], bytes_in: usize, bytes_out: usize) -> Vec<u8> {
    let mut expected = Vec::new();
    for message in sent.chunks(bytes_in) {
        let mut copy = message.to_vec();
        copy.resize(bytes_out, 0);
        expected.extend(copy);
    }
    expected
}

/// The next bytes that a member receives.
pub fn receive(mut socket: &Socket, count: usize) -> Vec<u8> {
    let mut received = vec![0; count];
    socket.read_exact(&mut received).unwrap();
    received
}

#[test]
fn delivers_every_byte_to_every_member_and_no_other() {
    for sending in WAYS {
        for (bytes_in, bytes_out) in [(40, 40), (33, 70), (70, 33)] {
            let mut random = SmallRng::seed_from_u64(7);
            let (address, server) = start(sending, bytes_in, bytes_out);
            let rooms: Vec<Vec<Socket>> = (0..3).map(|room| (0..4).map(|_| join(address, room)).collect()).collect();
            let mut expected = Vec::new();
            for members in &rooms {
                let sent = random_bytes(&mut random, 200 * bytes_in);
                // Split anywhere: in a message, between two, or with several in one write.
                let mut rest = sent.as_slice();
                while !rest.is_empty() {
                    let (now, later) = rest.split_at(random.random_range(1..=rest.len().min(3 * bytes_in)));
                    (&members[1]).write_all(now).unwrap();
                    rest = later;
                }
                expected.push(fanned_out(&sent, bytes_in, bytes_out));
            }
            for (members, expected) in rooms.iter().zip(&expected) {
                for member in members {
                    assert!(receive(member, expected.len()) == *expected, "{sending:?} {bytes_in} {bytes_out}");
                    // A byte more would be another room's, or one sent twice.
                    member.shutdown(Shutdown::Write).unwrap();
                }
            }
            for mut member in rooms.into_iter().flatten() {
                let mut more = Vec::new();
                member.read_to_end(&mut more).unwrap();
                assert!(more.is_empty(), "{sending:?}: {} bytes too many", more.len());
            }
            server.join().unwrap().unwrap();
        }
    }
}

#[test]
fn bounds_the_memory_of_a_member_that_does_not_read() {
    // More than the kernel's buffers and the backlog hold together, so that the server has to stop reading.
    const MESSAGES: usize = 40_000;
    const BYTES: usize = 1024;
    for sending in WAYS {
        let (address, server) = start(sending, BYTES, BYTES);
        let (slow, fast) = (join(address, 0), join(address, 0));
        let sent = random_bytes(&mut SmallRng::seed_from_u64(8), MESSAGES * BYTES);
        thread::scope(|scope| {
            let writing = scope.spawn(|| (&fast).write_all(&sent).unwrap());
            let reading = scope.spawn(|| receive(&fast, BYTES * 1000));
            assert!(reading.join().unwrap() == sent[..BYTES * 1000], "{sending:?}");
            let readers = [&slow, &fast].map(|socket| {
                let left = if std::ptr::eq(socket, &raw const fast) { &sent[BYTES * 1000..] } else { &sent[..] };
                scope.spawn(move || assert!(receive(socket, left.len()) == *left, "{sending:?}"))
            });
            for reader in readers {
                reader.join().unwrap();
            }
            writing.join().unwrap();
        });
        drop((slow, fast));
        server.join().unwrap().unwrap();
    }
}

#[test]
fn counts_messages_beyond_the_backlog() {
    let (_, _, options) = listener(Sending::Coalesced, 12, 12);
    let mut server = FloorServer::new(&options);
    server.connections.push(ServedConnection {
        stream: None,
        place: None,
        partial: Vec::new(),
        backlog: VecDeque::new(),
        backlog_bytes: 0,
    });
    for (change, congested) in [(BACKLOG_BYTES_MAX as isize, 0), (1, 1), (5, 1), (-6, 0), (6, 1), (isize::MIN, 0)] {
        server.count_backlog(0, change);
        assert_eq!(server.congested, congested, "after {change}");
    }
}

#[test]
fn measures_arrivals_and_checks_that_nothing_is_missing() {
    for sending in WAYS {
        for load in [FloorLoad::Open { rate: 2000.0 }, FloorLoad::Closed { window: 3 }] {
            let shape = shape(load, sending);
            let (address, server) = start(sending, shape.bytes_in, shape.bytes_out);
            let watched = Watched { server: Some(std::process::id()), store: None };
            let found = drive::drive(&shape, address, watched, &Interrupts::never()).unwrap();
            assert!(found.messages > 0 && found.deliveries > 0);
            assert!(found.server_ns > 0);
            // The sender's copy is one of five; at the two readings, messages are under way.
            assert!(found.acked * 4 < found.deliveries && found.deliveries < found.acked * 6, "{found:?}");
            assert!(found.ack.count < found.delivery.count, "{found:?}");
            server.join().unwrap().unwrap();
        }
    }
}

#[test]
fn detects_a_server_that_sends_too_little() {
    // 24 bytes instead of 12: to the driver, half of the deliveries are missing.
    let shape = Shape { bytes_in: 12, bytes_out: 12, ..shape(FloorLoad::Open { rate: 100.0 }, Sending::PerDelivery) };
    let (address, server) = start(Sending::PerDelivery, 24, 12);
    let error = drive::drive(&shape, address, Watched::default(), &Interrupts::never()).unwrap_err();
    assert!(error.contains("faulty"), "{error}");
    server.join().unwrap().unwrap();
}
