//! The bare loop over real sockets and a real PostgreSQL: a message is delivered when its row is committed, once to
//! every member, and in order.

use super::*;
use crate::floor::committer::{Commits, HELD_MAX, ReadyLoader};
use crate::floor::drive::{self, Watched};
use crate::floor::server::serve;
use crate::floor::server::tests::{self, fanned_out, join, listener, random_bytes, receive};
use crate::floor::sockets::{FloorLoad, Sending};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

fn shape(load: FloorLoad, sending: Sending) -> LoopShape {
    LoopShape { sockets: tests::shape(load, sending), connections: 1, content_bytes: 40 }
}

/// The loop in this process, with the rooms of the shape.
fn start(store: &Store, shape: &LoopShape) -> (SocketAddr, JoinHandle<Result<Commits, String>>) {
    let rooms = store.runtime.block_on(store.rooms(&shape.store(), &Interrupts::never())).unwrap();
    let target = store.embedded.target();
    let loaders = ReadyLoader::connect(&target, shape.connections, shape.content_bytes, &rooms).unwrap();
    let sockets = &shape.sockets;
    let (listener, address, options) = listener(sockets.sending, sockets.bytes_in, sockets.bytes_out);
    (address, thread::spawn(move || serve(listener, &options, loaders)))
}

/// Rows, distinct senders, and rows whose seq is not the next of their room.
fn stored(store: &Store) -> (i64, i64, i64) {
    let statement = "SELECT count(*), count(DISTINCT sender_id), \
        coalesce(sum((seq <> place)::int), 0) FROM (SELECT sender_id, seq, length(content) AS length, \
        row_number() OVER (PARTITION BY conversation_id ORDER BY seq) AS place FROM messages) AS m WHERE length = 40";
    let superuser = store.embedded.superuser_target();
    let row = store
        .runtime
        .block_on(async { superuser.connect_as_login().await.unwrap().query_one(statement, &[]).await.unwrap() });
    (row.get(0), row.get(1), row.get(2))
}

/// While the table is locked, no row is committed. `COMMIT` unlocks it.
fn lock(store: &Store) -> tokio_postgres::Client {
    let superuser = store.embedded.superuser_target();
    store.runtime.block_on(async {
        let client = superuser.connect_as_login().await.unwrap();
        client.batch_execute("BEGIN; LOCK TABLE messages").await.unwrap();
        client
    })
}

#[test]
fn every_message_is_committed_once_and_reaches_every_member() {
    let store = Store::open(None).unwrap();
    for (sending, connections) in [(Sending::PerDelivery, 1), (Sending::Coalesced, 1), (Sending::Coalesced, 2)] {
        for load in [FloorLoad::Open { rate: 1000.0 }, FloorLoad::Closed { window: 3 }] {
            let mut shape = shape(load, sending);
            shape.connections = connections;
            let (address, server) = start(&store, &shape);
            let watched = Watched { server: Some(std::process::id()), store: None };
            let found = drive::drive(&shape.sockets, address, watched, &Interrupts::never()).unwrap();
            let commits = server.join().unwrap().unwrap();
            assert!(found.acked > 0 && found.ack.count > 0, "{found:?}");
            assert_eq!(commits.rows, found.messages_in_all);
            assert_eq!(stored(&store), (commits.rows as i64, 6, 0), "{sending:?} {load:?} {connections}");
        }
    }
}

#[test]
fn a_batch_is_what_arrived_during_the_last_commit() {
    let store = Store::open(None).unwrap();
    for (window, means) in [(1, 1.0..=1.0), (8, 1.5..=8.0)] {
        let mut shape = shape(FloorLoad::Closed { window }, Sending::Coalesced);
        // One sender: with one message in flight there is never a second that could wait.
        (shape.sockets.rooms, shape.sockets.senders_per_room) = (1, 1);
        let (address, server) = start(&store, &shape);
        let found = drive::drive(&shape.sockets, address, Watched::default(), &Interrupts::never()).unwrap();
        let commits = server.join().unwrap().unwrap();
        assert!(means.contains(&commits.mean()), "window {window}: {commits:?}");
        // Each member of the room has one delivery for each ack, give or take those in flight at the two readings.
        let difference = found.deliveries.abs_diff(found.acked * 5);
        assert!(difference <= 2 * 5 * u64::from(window), "{found:?}");
    }
}

#[test]
fn delivers_nothing_before_its_commit() {
    let store = Store::open(None).unwrap();
    let shape = shape(FloorLoad::Closed { window: 1 }, Sending::Coalesced);
    let (address, server) = start(&store, &shape);
    let (sender, reader) = (join(address, 0), join(address, 0));
    let locked = lock(&store);
    let sent = random_bytes(&mut SmallRng::seed_from_u64(9), 20);
    (&sender).write_all(&sent).unwrap();
    thread::sleep(Duration::from_millis(300));
    for socket in [&sender, &reader] {
        socket.set_nonblocking(true).unwrap();
        let early = socket.peek(&mut [0]).map_err(|error| error.kind());
        assert_eq!(early, Err(std::io::ErrorKind::WouldBlock));
        socket.set_nonblocking(false).unwrap();
    }
    store.runtime.block_on(locked.batch_execute("COMMIT")).unwrap();
    for socket in [&sender, &reader] {
        assert_eq!(receive(socket, 33), fanned_out(&sent, 20, 33));
    }
    drop((sender, reader));
    assert_eq!(server.join().unwrap().unwrap(), Commits { rows: 1, statements: 1 });
}

#[test]
fn reads_nothing_more_while_too_many_messages_wait() {
    // The kernel's buffers have room for some 10 MB, and the messages that are held for 64 MiB.
    const BYTES: usize = 1024;
    const MESSAGES: usize = 2 * HELD_MAX;
    let store = Store::open(None).unwrap();
    let mut shape = shape(FloorLoad::Closed { window: 1 }, Sending::Coalesced);
    (shape.sockets.rooms, shape.sockets.room_size) = (1, 1);
    (shape.sockets.bytes_in, shape.sockets.bytes_out) = (BYTES, 12);
    let (address, server) = start(&store, &shape);
    let (socket, written) = (join(address, 0), AtomicUsize::new(0));
    // If the test fails, the writer does not wait for a server that reads nothing.
    socket.set_write_timeout(Some(Duration::from_mins(1))).unwrap();
    let locked = lock(&store);
    let written_while_locked = thread::scope(|scope| {
        scope.spawn(|| {
            let mut message = [0; BYTES];
            for number in 0..MESSAGES {
                message[..8].copy_from_slice(&number.to_le_bytes());
                (&socket).write_all(&message).unwrap();
                written.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut seen = usize::MAX;
        while seen != written.load(Ordering::Relaxed) {
            seen = written.load(Ordering::Relaxed);
            thread::sleep(Duration::from_secs(1));
        }
        store.runtime.block_on(locked.batch_execute("COMMIT")).unwrap();
        for number in 0..MESSAGES {
            assert_eq!(receive(&socket, 12)[..8], number.to_le_bytes());
        }
        seen
    });
    assert!((HELD_MAX..MESSAGES * 3 / 4).contains(&written_while_locked), "{written_while_locked} were written");
    drop(socket);
    assert_eq!(server.join().unwrap().unwrap().rows as usize, MESSAGES);
}

#[test]
fn ends_when_its_loader_fails() {
    let store = Store::open(None).unwrap();
    let shape = shape(FloorLoad::Closed { window: 1 }, Sending::Coalesced);
    let (address, server) = start(&store, &shape);
    let members: Vec<_> = (0..6).map(|_| join(address, 0)).collect();
    // The room has five members in PostgreSQL.
    (&members[5]).write_all(&[0; 20]).unwrap();
    let error = server.join().unwrap().unwrap_err();
    assert!(error.contains("no member 5"), "{error}");
}

#[test]
fn detects_rows_that_are_missing() {
    let store = Store::open(None).unwrap();
    let shape = shape(FloorLoad::Closed { window: 1 }, Sending::Coalesced);
    store.runtime.block_on(store.rooms(&shape.store(), &Interrupts::never())).unwrap();
    let check = |rows| store.runtime.block_on(store.check_rows(rows));
    assert_eq!(check(0), Ok(()));
    assert!(check(1).unwrap_err().contains("faulty"));
}

#[test]
fn its_figures_are_those_of_the_measured_time() {
    let found = drive::DriveFigures {
        seconds: 2.0,
        messages: 1010,
        acked: 1000,
        deliveries: 10_000,
        server_ns: 900_000_000,
        main_thread_ns: 600_000_000,
        store_ns: 400_000_000,
        driver_ns: 200_000_000,
        delivery: Percentiles::default(),
        ack: Percentiles::default(),
        messages_in_all: 2000,
    };
    let shape = shape(FloorLoad::Closed { window: 1 }, Sending::Coalesced);
    let floor = LoopFloor::of(&shape, &found, Commits { rows: 2000, statements: 50 });
    let figures = [
        (floor.acked_per_s, 500.0),
        (floor.deliveries_per_s, 5000.0),
        (floor.batch_mean, 40.0),
        (floor.loop_cores, 0.3),
        (floor.loader_cores, 0.15),
        (floor.postgres_cores, 0.2),
        (floor.driver_cores, 0.1),
        (floor.postgres_cpu_us_per_row, 400.0),
    ];
    for (figure, expected) in figures {
        assert!((figure - expected).abs() < 1e-9, "{figure} instead of {expected}: {floor:?}");
    }
    let text = serde_json::to_string(&floor).unwrap();
    assert_eq!(serde_json::from_str::<LoopFloor>(&text).unwrap().shape.sockets.load, shape.sockets.load);
}
