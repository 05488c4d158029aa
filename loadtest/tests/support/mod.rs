//! A chat server just good enough to be load-tested, with faults on request. It keeps everything in one lock, which
//! makes its order obviously right, so that whatever the harness finds is the fault that was asked for.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

/// What the server does wrong, now and then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing.
    None,
    /// One delivery in 21 is left out.
    Skip,
    /// One delivery in 21 arrives twice.
    Double,
    /// One delivery in 21 arrives after its successor.
    Swap,
    /// One ack in ten is not sent.
    NoAck,
    /// One ack in ten arrives after the event.
    LateAck,
    /// All answers wait for the send with the number [`HELD_SENDS`], and two seconds more.
    Late,
    /// One delivery in 21 has another text.
    Garble,
    /// One delivery in 21 also reaches a connection outside the room.
    Leak,
    /// One send in ten is refused.
    RateLimit,
    /// All connections are cut after 30 sends, once, the last one stored but not acknowledged.
    Restart,
    /// As `Restart`, and repetitions are not recognised.
    RestartForgetful,
    /// As `Restart`, and resuming leaves the last event out.
    RestartLossy,
    /// As `Restart`, and clients receive a reset and must read the history.
    RestartReset,
    /// Commands other than messages are never answered.
    NoReply,
    /// Log-ins fail, from the tenth on.
    NoLogin,
    /// Resuming never ends.
    NoCaughtUp,
    /// Access tokens of a rerun expire with the restart.
    RestartExpiringTokens,
}

/// How many sends [`Fault::Late`] waits for.
pub const HELD_SENDS: u64 = 300;

impl Fault {
    fn restarts(self) -> bool {
        use Fault::{Restart, RestartExpiringTokens, RestartForgetful, RestartLossy, RestartReset};
        matches!(self, Restart | RestartForgetful | RestartLossy | RestartReset | RestartExpiringTokens)
    }
}

enum Out {
    Frame(Value),
    Cut,
}

struct Subscriber {
    connection: u64,
    out: mpsc::Sender<Out>,
    held: Option<Value>,
}

#[derive(Default)]
struct Room {
    name: String,
    members: HashSet<String>,
    log: Vec<Value>,
    stored: HashMap<(String, String), (u64, u64)>,
    subscribers: Vec<Subscriber>,
}

/// What the server remembers.
struct State {
    fault: Fault,
    users: HashSet<String>,
    rooms: Vec<Room>,
    logins: u64,
    sends: u64,
    /// What [`Fault::Late`] delays.
    held: Vec<(mpsc::Sender<Out>, Value)>,
    deliveries: u64,
    connections: u64,
    generation: u64,
    restarted: bool,
    down_until: Option<Instant>,
}

/// A running fake.
pub struct Fake {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Fake {
    /// Starts one on a free port.
    pub async fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State {
            fault,
            users: HashSet::new(),
            rooms: Vec::new(),
            logins: 0,
            sends: 0,
            held: Vec::new(),
            deliveries: 0,
            connections: 0,
            generation: 0,
            restarted: false,
            down_until: None,
        }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let down = shared.lock().expect("lock").down_until.is_some_and(|until| Instant::now() < until);
                let _ = stream.set_nodelay(true);
                if !down {
                    tokio::spawn(serve(stream, Arc::clone(&shared)));
                }
            }
        });
        Self { address, state }
    }

    /// How many messages have been sent.
    pub fn sends(&self) -> u64 {
        self.state.lock().expect("lock").sends
    }

    /// How many users and rooms there are.
    pub fn population(&self) -> (usize, usize) {
        let state = self.state.lock().expect("lock");
        (state.users.len(), state.rooms.len())
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut head = [0; 16];
    let read = stream.peek(&mut head).await.unwrap_or_default();
    if head[..read].starts_with(b"GET /ws") {
        serve_websocket(stream, state).await;
    } else {
        serve_http(stream, &state).await;
    }
}

/// One request, then close.
async fn serve_http(mut stream: TcpStream, state: &Mutex<State>) {
    let mut bytes = Vec::new();
    let (head, body_at) = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break (String::from_utf8_lossy(&bytes[..at]).into_owned(), at + 4);
        }
        if stream.read_buf(&mut bytes).await.unwrap_or_default() == 0 {
            return;
        }
    };
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
        Some(line[name.len() + 1..].trim().to_owned())
    };
    let length: usize = header("content-length").and_then(|length| length.parse().ok()).unwrap_or_default();
    while bytes.len() < body_at + length {
        if stream.read_buf(&mut bytes).await.unwrap_or_default() == 0 {
            return;
        }
    }
    let body: Value = serde_json::from_slice(&bytes[body_at..]).unwrap_or_default();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let (status, answer) = {
        let mut state = state.lock().expect("lock");
        let user = header("authorization").and_then(|token| state.user_of(&token));
        state.http(&path, user, &body)
    };
    let answer = answer.to_string();
    let reply = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{answer}",
        answer.len()
    );
    let _ = stream.write_all(reply.as_bytes()).await;
}

async fn serve_websocket(stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut user = None;
    let mut packed = false;
    let mut all = true;
    #[allow(clippy::result_large_err, reason = "the library's signature")]
    let callback = |request: &Request, mut response: Response| {
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        user = state.lock().expect("lock").user_of(header("authorization"));
        all = request.uri().query() == Some("subscribe=all");
        packed = header("sec-websocket-protocol") == "veza.v1.msgpack";
        if user.is_none() {
            let mut refusal = ErrorResponse::new(None);
            *refusal.status_mut() = tokio_tungstenite::tungstenite::http::StatusCode::UNAUTHORIZED;
            return Err(refusal);
        }
        let protocol = request.headers()["sec-websocket-protocol"].clone();
        response.headers_mut().insert("sec-websocket-protocol", protocol);
        Ok(response)
    };
    let Ok(mut ws) = tokio_tungstenite::accept_hdr_async(stream, callback).await else { return };
    let Some(user) = user else { return };
    let (out, mut queue) = mpsc::channel(100_000);
    let connection = state.lock().expect("lock").connected(&user, &out, all);
    loop {
        tokio::select! {
            next = queue.recv() => match next {
                Some(Out::Frame(frame)) => {
                    let message = if packed {
                        Message::binary(rmp_serde::to_vec_named(&frame).expect("packs"))
                    } else {
                        Message::text(frame.to_string())
                    };
                    if ws.send(message).await.is_err() {
                        break;
                    }
                }
                Some(Out::Cut) | None => break,
            },
            message = ws.next() => {
                let command: Value = match message {
                    Some(Ok(Message::Text(text))) if !packed => serde_json::from_str(&text).expect("JSON"),
                    Some(Ok(Message::Binary(bytes))) if packed => rmp_serde::from_slice(&bytes).expect("MessagePack"),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    _ => break,
                };
                state.lock().expect("lock").command(&user, connection, &out, &command);
            }
        }
    }
    state.lock().expect("lock").disconnected(connection);
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

impl State {
    fn user_of(&self, bearer: &str) -> Option<String> {
        let (generation, name) = bearer.strip_prefix("Bearer ")?.split_once('/')?;
        (generation == self.generation.to_string()).then(|| name.to_owned())
    }

    fn session(&self, name: &str) -> Value {
        json!({"user": {"id": 1, "username": name}, "access_token": format!("{}/{name}", self.generation),
            "refresh_token": "r", "token_type": "Bearer", "expires_in": 900})
    }

    fn http(&mut self, path: &str, user: Option<String>, body: &Value) -> (u16, Value) {
        match (path, user) {
            ("/auth/register", _) if self.users.insert(text(body, "username").to_owned()) => {
                (201, self.session(text(body, "username")))
            }
            ("/auth/register", _) => (409, json!({"code": "conflict", "title": "Conflict", "detail": "Name taken."})),
            ("/auth/login", _) if text(body, "password") == "wrong-password" => {
                (401, json!({"code": "unauthenticated", "detail": "Wrong name or password."}))
            }
            ("/auth/login", _) => {
                self.logins += 1;
                if self.fault == Fault::NoLogin && self.logins >= 10 {
                    return (500, json!({"code": "internal", "detail": "Out of order."}));
                }
                (200, self.session(text(body, "login")))
            }
            ("/api/commands", Some(user)) => (200, self.http_command(&user, body)),
            _ => (401, json!({"code": "unauthenticated"})),
        }
    }

    fn http_command(&mut self, user: &str, body: &Value) -> Value {
        let data = &body["data"];
        match text(body, "type") {
            "list_conversations" => {
                // One a page, to try the paging.
                let at = data["cursor"].as_u64().unwrap_or_default() as usize;
                let mine: Vec<usize> =
                    (0..self.rooms.len()).filter(|r| self.rooms[*r].members.contains(user)).collect();
                let page: Vec<Value> = mine.iter().skip(at).take(1).map(|room| self.conversation(*room)).collect();
                json!({"conversations": page, "next_cursor": (at + 1 < mine.len()).then_some(at + 1)})
            }
            "create_conversation" => {
                self.rooms.push(Room { name: text(data, "name").to_owned(), ..Room::default() });
                let room = self.rooms.len() - 1;
                self.join(user, room);
                json!({"conversation": self.conversation(room)})
            }
            _ => {
                let room = room_index(data);
                self.join(user, room);
                json!({"conversation": self.conversation(room), "seq": self.rooms[room].log.len()})
            }
        }
    }

    fn join(&mut self, user: &str, room: usize) {
        if self.rooms[room].members.insert(user.to_owned()) {
            self.append(room, "member_joined", json!({}));
        }
    }

    fn conversation(&self, room: usize) -> Value {
        let of = &self.rooms[room];
        json!({"id": format!("room_{room}"), "kind": "public_room", "name": of.name, "last_seq": of.log.len(),
            "archived": false, "owner_id": 1})
    }

    fn connected(&mut self, user: &str, out: &mpsc::Sender<Out>, all: bool) -> u64 {
        self.connections += 1;
        let mut conversations = Vec::new();
        if all {
            for room in 0..self.rooms.len() {
                if self.rooms[room].members.contains(user) {
                    conversations.push(self.conversation(room));
                    self.subscribe(room, self.connections, out);
                }
            }
        }
        let data = json!({"session_id": "s", "heartbeat_ms": 30000, "limits": {}, "conversations": conversations});
        reply(out, json!({"type": "welcome", "data": data}));
        self.connections
    }

    fn disconnected(&mut self, connection: u64) {
        for room in &mut self.rooms {
            room.subscribers.retain(|subscriber| subscriber.connection != connection);
        }
    }

    fn subscribe(&mut self, room: usize, connection: u64, out: &mpsc::Sender<Out>) {
        self.rooms[room].subscribers.push(Subscriber { connection, out: out.clone(), held: None });
    }

    fn command(&mut self, user: &str, connection: u64, out: &mpsc::Sender<Out>, command: &Value) {
        let (id, data) = (&command["id"], &command["data"]);
        match text(command, "type") {
            "send_message" => self.send(user, out, id, data),
            "resume" => {
                reply(out, json!({"type": "ack", "id": id, "data": {"last_seq": {}}}));
                for (room, cursor) in data["cursors"].as_object().expect("cursors") {
                    self.resume(room, cursor.as_u64().expect("a cursor") as usize, connection, out);
                }
            }
            "get_history" => {
                let room = &self.rooms[room_index(data)];
                let after = data["after_seq"].as_u64().unwrap_or_default() as usize;
                let is_message = |event: &&Value| event["type"] == "message_created";
                let rest: Vec<&Value> =
                    room.log[after..].iter().filter(is_message).map(|event| &event["data"]).collect();
                let page = &rest[..rest.len().min(3)];
                let data = json!({"messages": page, "has_more": rest.len() > page.len()});
                reply(out, json!({"type": "ack", "id": id, "data": data}));
            }
            "mark_read" => {
                if self.fault != Fault::NoReply {
                    reply(out, json!({"type": "ack", "id": id, "data": {}}));
                }
            }
            other => panic!("unexpected command {other}"),
        }
    }

    fn resume(&mut self, id: &str, cursor: usize, connection: u64, out: &mpsc::Sender<Out>) {
        let room = room_index(&json!({"conversation_id": id}));
        let last = self.rooms[room].log.len();
        if self.fault == Fault::RestartReset {
            reply(out, json!({"type": "reset", "data": {"conversation_id": id, "last_seq": last}}));
        } else {
            let until = if self.fault == Fault::RestartLossy { last.saturating_sub(1) } else { last };
            for event in self.rooms[room].log.iter().take(until).skip(cursor) {
                reply(out, event.clone());
            }
            if self.fault != Fault::NoCaughtUp {
                reply(out, json!({"type": "caught_up", "data": {"conversation_id": id, "seq": last}}));
            }
        }
        self.subscribe(room, connection, out);
    }

    fn send(&mut self, user: &str, out: &mpsc::Sender<Out>, id: &Value, data: &Value) {
        self.sends += 1;
        let tenth = self.sends.is_multiple_of(10);
        if self.fault == Fault::RateLimit && tenth {
            let error = json!({"code": "rate_limited", "message": "Slow down.", "retry_after_ms": 10});
            return reply(out, json!({"type": "error", "id": id, "data": error}));
        }
        let room = room_index(data);
        let key = (user.to_owned(), text(data, "client_message_id").to_owned());
        let known = self.rooms[room].stored.get(&key).copied().filter(|_| self.fault != Fault::RestartForgetful);
        let seq = known.map_or(self.rooms[room].log.len() as u64 + 1, |(_, seq)| seq);
        let message_id = known.map_or(self.sends + 1000, |(message_id, _)| message_id);
        let ack = json!({"type": "ack", "id": id, "data": {"message_id": message_id,
            "conversation_id": data["conversation_id"], "seq": seq, "duplicate": known.is_some()}});
        let restart = self.fault.restarts() && !self.restarted && self.sends >= 30;
        let late = self.fault == Fault::LateAck && tenth;
        if self.fault == Fault::Late {
            self.held.push((out.clone(), ack.clone()));
        } else if !(restart || late || self.fault == Fault::NoAck && tenth) {
            reply(out, ack.clone());
        }
        if restart {
            // A connection carries the ack before the event: cut before the one, it never carries the other.
            let _ = out.try_send(Out::Cut);
        }
        if known.is_none() {
            self.rooms[room].stored.insert(key, (message_id, seq));
            self.append(room, "message_created", json!({"message_id": message_id, "content": data["content"]}));
        }
        if late {
            reply(out, ack);
        }
        if self.fault == Fault::Late && self.sends == HELD_SENDS {
            let held = std::mem::take(&mut self.held);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(2)).await;
                for (out, frame) in held {
                    reply(&out, frame);
                }
            });
        }
        if restart {
            self.restarted = true;
            self.down_until = Some(Instant::now() + Duration::from_millis(300));
            self.generation += u64::from(self.fault == Fault::RestartExpiringTokens);
            for subscriber in self.rooms.iter_mut().flat_map(|room| room.subscribers.drain(..)) {
                let _ = subscriber.out.try_send(Out::Cut);
            }
        }
    }

    fn append(&mut self, room: usize, kind: &str, mut data: Value) {
        let fault = self.fault;
        let mut leaks = false;
        let of = &mut self.rooms[room];
        data["conversation_id"] = json!(format!("room_{room}"));
        data["seq"] = json!(of.log.len() + 1);
        let event = json!({"type": kind, "data": data});
        of.log.push(event.clone());
        for subscriber in &mut of.subscribers {
            self.deliveries += 1;
            // No multiple of a room's size, so that every connection has its turn.
            let faulty = self.deliveries.is_multiple_of(21);
            leaks |= faulty;
            match fault {
                Fault::Skip if faulty => {}
                Fault::Late if kind == "message_created" => self.held.push((subscriber.out.clone(), event.clone())),
                Fault::Swap if faulty => subscriber.held = Some(event.clone()),
                Fault::Double if faulty => {
                    reply(&subscriber.out, event.clone());
                    reply(&subscriber.out, event.clone());
                }
                Fault::Garble if faulty => {
                    let mut garbled = event.clone();
                    let mut content = text(&event["data"], "content").to_owned();
                    let last = content.pop();
                    content.push(if last == Some('x') { 'y' } else { 'x' });
                    garbled["data"]["content"] = json!(content);
                    reply(&subscriber.out, garbled);
                }
                _ => {
                    reply(&subscriber.out, event.clone());
                    if let Some(held) = subscriber.held.take() {
                        reply(&subscriber.out, held);
                    }
                }
            }
        }
        if fault == Fault::Leak && leaks {
            let outside = |subscriber: &&Subscriber| {
                self.rooms[room].subscribers.iter().all(|member| member.connection != subscriber.connection)
            };
            if let Some(stranger) = self.rooms.iter().flat_map(|room| &room.subscribers).find(outside) {
                reply(&stranger.out, event);
            }
        }
    }
}

fn room_index(data: &Value) -> usize {
    text(data, "conversation_id").strip_prefix("room_").and_then(|room| room.parse().ok()).expect("a room")
}

fn reply(out: &mpsc::Sender<Out>, frame: Value) {
    // A closed connection needs no reply.
    let _ = out.try_send(Out::Frame(frame));
}
