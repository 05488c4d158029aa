//! Every peer checked here understands its codec. Connections join, each message is acknowledged once, and it reaches
//! every subscriber once, including the sender, in the order of each sender.
//!
//! The INSERT server is part of this program and is always among them. The test names other peers that are not
//! installed, with the command that installs them. `LOADTEST_PEERS_REQUIRED=1` makes a missing peer a failure.

use super::codec::{Codec, Frames, Incoming, mqtt::Mqtt, nats::Nats, relay::Relay, xmpp::Xmpp};
use super::insert_server;
use super::peers::{Ground, PeerKind};
use super::places::{Places, Ports};
use super::postgres::Postgres;
use std::collections::{BTreeMap, VecDeque};
use std::fs::Permissions;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

const CLIENTS: u32 = 3;
const MESSAGES: u32 = 20;
const ROOMS: [u32; 2] = [0, 17];

struct Outbox(VecDeque<Message>);

impl Frames for Outbox {
    fn text(&mut self, content: &str) {
        self.0.push_back(Message::text(content));
    }
    fn binary(&mut self, content: &[u8]) {
        self.0.push_back(Message::binary(content.to_vec()));
    }
}

#[derive(Default)]
struct Heard {
    ready: bool,
    acked: Vec<u32>,
    delivered: BTreeMap<u32, Vec<String>>,
}

struct Client<C> {
    codec: C,
    socket: WebSocket<TcpStream>,
    heard: Heard,
}

impl<C: Codec> Client<C> {
    fn connect(address: SocketAddr, index: u32) -> Self {
        let mut request = format!("ws://{address}{}", C::PATH).into_client_request().expect("a request");
        if let Some(subprotocol) = C::SUBPROTOCOL {
            let value = subprotocol.parse().expect("a header");
            request.headers_mut().insert("Sec-WebSocket-Protocol", value);
        }
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        let (socket, _) = client(request, stream).expect("an upgrade");
        let mut client = Self { codec: C::new(index, &ROOMS), socket, heard: Heard::default() };
        client.write(C::opened);
        client.read_until(|heard| heard.ready);
        client
    }

    fn write(&mut self, fill: impl FnOnce(&mut C, &mut Outbox)) {
        let mut out = Outbox(VecDeque::new());
        fill(&mut self.codec, &mut out);
        for message in out.0 {
            self.socket.send(message).expect("written");
        }
    }

    fn read_until(&mut self, done: impl Fn(&Heard) -> bool) {
        while !done(&self.heard) {
            let message = self.socket.read().expect("an answer in time");
            if !(message.is_text() || message.is_binary()) {
                continue;
            }
            let (mut out, heard) = (Outbox(VecDeque::new()), &mut self.heard);
            self.codec.received(&message.into_data(), &mut out, &mut |incoming| match incoming {
                Incoming::Ready => heard.ready = true,
                Incoming::Acked(number) => heard.acked.push(number),
                Incoming::Delivered { room, content } => {
                    heard.delivered.entry(room).or_default().push(String::from_utf8_lossy(content).into_owned());
                }
                Incoming::Refused(number, reason) => panic!("{number} was refused: {reason}"),
                Incoming::Failed(reason) => panic!("{reason}"),
            });
            for message in out.0 {
                self.socket.send(message).expect("written");
            }
        }
    }
}

fn converse<C: Codec>(address: SocketAddr) {
    let mut clients: Vec<Client<C>> = (0..CLIENTS).map(|index| Client::connect(address, index)).collect();
    let content = |client: u32, number: u32| format!("{client}:{number} some \"quotes\" <and> {}", "x".repeat(90));
    for number in 0..MESSAGES {
        for (index, client) in (0..).zip(&mut clients) {
            let room = ROOMS[number as usize % ROOMS.len()];
            client.write(|codec, out| codec.publish(room, number, &content(index, number), out));
        }
    }
    let deliveries = (CLIENTS * MESSAGES) as usize;
    for client in &mut clients {
        client.read_until(|heard| {
            heard.acked.len() == MESSAGES as usize
                && heard.delivered.values().map(Vec::len).sum::<usize>() == deliveries
        });
        client.heard.acked.sort_unstable();
        assert_eq!(client.heard.acked, (0..MESSAGES).collect::<Vec<_>>());
        for (at, room) in (0..).zip(ROOMS) {
            for sender in 0..CLIENTS {
                let prefix = format!("{sender}:");
                let heard: Vec<_> =
                    client.heard.delivered[&room].iter().filter(|text| text.starts_with(&prefix)).collect();
                let sent: Vec<_> = (0..MESSAGES)
                    .filter(|number| number % ROOMS.len() as u32 == at)
                    .map(|number| content(sender, number))
                    .collect();
                assert_eq!(heard, sent.iter().collect::<Vec<_>>());
            }
        }
    }
}

/// Returns whether the peer is installed, and checks its answers if so.
fn answers<C: Codec>(kind: PeerKind) -> bool {
    let peers = PathBuf::from(std::env!("CARGO_MANIFEST_DIR")).join("../target/peers");
    let places = Places::new(std::env::var_os("PATH").as_deref(), peers);
    if let Err(missing) = kind.find(&places) {
        assert!(std::env::var_os("LOADTEST_PEERS_REQUIRED").is_none(), "{}", missing.what);
        eprintln!("{} is left out: {}; install it: {}", kind.title(), missing.what, missing.install);
        return false;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("permissions");
    for round in 0..2 {
        let mut ground = Ground {
            places: &places,
            directory: directory.path(),
            ports: &mut Ports::new(None),
            cores: &[],
            workers: 1,
            connections: CLIENTS,
            rooms: 18,
        };
        let running = kind.start(&mut ground).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert!(!running.version.is_empty());
        converse::<C>(running.address);
    }
    true
}

/// The INSERT server in a thread, because the test program does not have its command.
fn insert_server_answers() {
    let places = Places::new(std::env::var_os("PATH").as_deref(), PathBuf::new());
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("permissions");
    let mut ports = Ports::new(None);
    let port = ports.reserve().expect("a port");
    let store = Postgres::start(&places, &directory.path().join("postgres"), port, &[]).expect("PostgreSQL starts");
    store.create_database("plain", insert_server::SCHEMA).expect("a database");
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.reserve().expect("a port")));
    let options = insert_server::Options { listen, database: store.address("plain"), workers: 1 };
    std::thread::spawn(move || insert_server::serve(&options));
    let deadline = Instant::now() + Duration::from_mins(1);
    while TcpStream::connect(listen).is_err() {
        assert!(Instant::now() < deadline, "it does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    converse::<Relay>(listen);
}

#[test]
fn the_insert_server_and_every_installed_peer_answer() {
    insert_server_answers();
    let others: Vec<&str> = [
        (PeerKind::Uws, answers::<Relay> as fn(PeerKind) -> bool),
        (PeerKind::Mosquitto, answers::<Mqtt>),
        (PeerKind::Nats, answers::<Nats>),
        (PeerKind::Ejabberd, answers::<Xmpp>),
    ]
    .into_iter()
    .filter_map(|(kind, answers)| answers(kind).then_some(kind.title()))
    .collect();
    eprintln!("checked: {}, and of those that are installed: {others:?}", PeerKind::Tungstenite.title());
}
