//! A model client: one device of one user, which believes only what it was sent.
//!
//! It keeps a cursor per conversation, as a real client does: each event must be the next one after it. Acks are
//! compared with the store; a command is answered once; what was not acknowledged is sent again under its key.

use crate::Verdicts;
use crate::filtered;
use crate::frames::split_frame;
use crate::network::{Network, Pipe};
use crate::store::Store;
use crate::tables::Entry;
use chat_server::ids::{ConversationId, SessionId, UserId};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A masked frame of a client; the mask is zero, which RFC 6455 allows.
fn masked_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    if payload.len() < 126 {
        frame.push(0x80 | payload.len() as u8);
    } else {
        frame.push(0x80 | 0x7e);
        frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// What a command asked for, until its answer comes.
#[derive(Clone, Debug)]
enum Command {
    Send { conversation: ConversationId, key: String },
    Subscribe { conversation: ConversationId, after: Option<i64> },
    Resume { cursors: BTreeMap<ConversationId, i64> },
    Unsubscribe { conversation: ConversationId },
    GetPresence,
    SetPresence(String),
    Other,
}

/// A message that is not acknowledged yet.
#[derive(Clone, Debug)]
pub struct Unsent {
    conversation: ConversationId,
    key: String,
    content: String,
}

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Away,
    Connecting(usize),
    Open(usize),
}

/// One device.
pub struct Client {
    /// Its user.
    pub user: UserId,
    /// Its sign-in.
    pub session: SessionId,
    state: State,
    subscribe_all: bool,
    received: Vec<u8>,
    next_id: i64,
    next_key: u64,
    device: usize,
    /// The last event of each conversation that it follows on this connection.
    pub cursors: BTreeMap<ConversationId, i64>,
    /// The last event of each conversation on any connection: what it resumes with.
    pub known: BTreeMap<ConversationId, i64>,
    outstanding: BTreeMap<i64, Command>,
    /// Conversations whose last event says that the user has left.
    pub left: BTreeSet<ConversationId>,
    /// What this connection has unsubscribed from.
    unsubscribed: BTreeSet<ConversationId>,
    /// Messages that are not acknowledged.
    pub unsent: Vec<Unsent>,
    acked: Vec<(ConversationId, String)>,
    /// Users that this connection asked about and was shown.
    pub watched: BTreeSet<UserId>,
    /// The status texts that this connection was sent since the last probe.
    pub presence: BTreeMap<UserId, String>,
    /// The status text of its last acknowledged `set_presence`.
    pub shows: Option<String>,
    /// It does not read.
    pub is_slow: bool,
    /// Its frames are printed.
    pub is_traced: bool,
    /// Its messages have words that rules of the content filter match.
    pub tries_the_filter: bool,
}

impl Client {
    /// A device that has not connected yet.
    #[must_use]
    pub fn new(user: UserId, session: SessionId, device: usize) -> Self {
        Self {
            user,
            session,
            state: State::Away,
            subscribe_all: true,
            received: Vec::new(),
            next_id: 1,
            next_key: 1,
            device,
            cursors: BTreeMap::new(),
            known: BTreeMap::new(),
            outstanding: BTreeMap::new(),
            left: BTreeSet::new(),
            unsubscribed: BTreeSet::new(),
            unsent: Vec::new(),
            acked: Vec::new(),
            watched: BTreeSet::new(),
            presence: BTreeMap::new(),
            shows: None,
            is_slow: false,
            is_traced: false,
            tries_the_filter: false,
        }
    }

    /// Its socket, while it has one.
    #[must_use]
    pub fn socket(&self) -> Option<usize> {
        match self.state {
            State::Away => None,
            State::Connecting(socket) | State::Open(socket) => Some(socket),
        }
    }

    /// Whether it is welcome.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether it follows the conversation without having asked for it, and has not asked for the contrary.
    #[must_use]
    pub fn follows(&self, conversation: ConversationId) -> bool {
        self.subscribe_all && !self.unsubscribed.contains(&conversation)
    }

    /// Commands without an answer on the present connection.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.outstanding.len()
    }

    /// Connects; the caller brings the socket to a shard.
    pub fn connect(&mut self, pipe: &mut Pipe, socket: usize, token: &str, subscribe_all: bool, hint: ConversationId) {
        self.state = State::Connecting(socket);
        self.subscribe_all = subscribe_all;
        self.received.clear();
        self.is_slow = false;
        pipe.user = Some(self.user);
        pipe.window = usize::MAX / 2;
        let subscribe = if subscribe_all { "all" } else { "none" };
        let head = format!(
            "GET /ws?subscribe={subscribe}&conversation={hint} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Authorization: Bearer {token}\r\n\r\n"
        );
        pipe.to_server.extend(head.as_bytes());
    }

    /// Prints what the device does, for replays.
    fn trace(&self, what: &str, frame: &Value) {
        if self.is_traced {
            eprintln!("device {} of user {} {what} {frame}", self.device, self.user.0);
        }
    }

    /// The connection has ended, on either side.
    fn disconnected(&mut self) {
        self.trace("is disconnected from", &json!(self.socket()));
        self.state = State::Away;
        self.cursors.clear();
        self.outstanding.clear();
        self.left.clear();
        self.unsubscribed.clear();
        self.watched.clear();
        self.received.clear();
    }

    /// Cuts the connection, as a phone does that loses its network.
    pub fn cut(&mut self, network: &mut Network) {
        if let Some(socket) = self.socket() {
            network.pipes[socket].client_gone = true;
        }
        self.disconnected();
    }

    /// Closes in order: a close frame, then its half of the connection.
    pub fn close(&mut self, network: &mut Network) {
        if let Some(socket) = self.socket() {
            let pipe = &mut network.pipes[socket];
            pipe.to_server.extend(masked_frame(8, &1000u16.to_be_bytes()));
            pipe.client_finished = true;
        }
        self.disconnected();
    }

    fn command(&mut self, network: &mut Network, command: Command, kind: &str, data: &Value) {
        let State::Open(socket) = self.state else { return };
        let id = self.next_id;
        self.next_id += 1;
        self.outstanding.insert(id, command);
        let frame = json!({ "type": kind, "id": id, "data": data });
        self.trace("sends", &frame);
        let text = frame.to_string();
        network.pipes[socket].to_server.extend(masked_frame(1, text.as_bytes()));
    }

    /// Sends a new message.
    pub fn send_message(&mut self, network: &mut Network, conversation: ConversationId, length: usize) {
        let word = if self.tries_the_filter { filtered::word(self.next_key) } else { "" };
        let key = format!("{}-{}", self.device, self.next_key);
        let content = format!("{key} {word} {}", "x".repeat(length));
        self.next_key += 1;
        self.unsent.push(Unsent { conversation, key, content });
        let message = self.unsent[self.unsent.len() - 1].clone();
        self.submit(network, message);
    }

    /// Sends everything again that is not acknowledged.
    pub fn send_again(&mut self, network: &mut Network) {
        for message in self.unsent.clone() {
            self.submit(network, message);
        }
    }

    fn submit(&mut self, network: &mut Network, message: Unsent) {
        let Unsent { conversation, key, content } = message;
        let data = json!({ "conversation_id": conversation, "content": content, "client_message_id": key });
        self.command(network, Command::Send { conversation, key }, "send_message", &data);
    }

    /// Follows a conversation from what is known of it.
    pub fn subscribe(&mut self, network: &mut Network, conversation: ConversationId) {
        let after = self.known.get(&conversation).copied();
        let data = match after {
            Some(after) => json!({ "conversation_id": conversation, "after_seq": after }),
            None => json!({ "conversation_id": conversation }),
        };
        self.command(network, Command::Subscribe { conversation, after }, "subscribe", &data);
    }

    /// Follows everything that is known.
    pub fn resume(&mut self, network: &mut Network) {
        if self.known.is_empty() {
            return;
        }
        let cursors = self.known.clone();
        let map: serde_json::Map<_, _> = cursors.iter().map(|(c, seq)| (c.to_string(), json!(seq))).collect();
        self.command(network, Command::Resume { cursors }, "resume", &json!({ "cursors": map }));
    }

    /// Stops following a conversation.
    pub fn unsubscribe(&mut self, network: &mut Network, conversation: ConversationId) {
        self.unsubscribed.insert(conversation);
        let data = json!({ "conversation_id": conversation });
        self.command(network, Command::Unsubscribe { conversation }, "unsubscribe", &data);
    }

    /// Asks about users and watches them.
    pub fn get_presence(&mut self, network: &mut Network, users: &[UserId]) {
        self.command(network, Command::GetPresence, "get_presence", &json!({ "user_ids": users }));
    }

    /// Shows a status text.
    pub fn set_presence(&mut self, network: &mut Network, text: &str) {
        let data = json!({ "status": "busy", "status_text": text });
        self.command(network, Command::SetPresence(text.to_owned()), "set_presence", &data);
    }

    /// Any change about a conversation or a user.
    pub fn change(&mut self, network: &mut Network, kind: &str, data: &Value) {
        self.command(network, Command::Other, kind, data);
    }

    /// Moves the read marker to the last event that it knows.
    pub fn mark_read(&mut self, network: &mut Network, conversation: ConversationId) {
        let seq = self.known.get(&conversation).copied().unwrap_or(0);
        self.change(network, "mark_read", &json!({ "conversation_id": conversation, "seq": seq }));
    }

    /// A signal that has no answer.
    pub fn typing(&mut self, network: &mut Network, conversation: ConversationId) {
        let State::Open(socket) = self.state else { return };
        let text = json!({ "type": "typing", "data": { "conversation_id": conversation } }).to_string();
        network.pipes[socket].to_server.extend(masked_frame(1, text.as_bytes()));
    }

    /// Reads what has arrived.
    pub fn read(&mut self, network: &mut Network, store: &Store, verdicts: &Verdicts) {
        let Some(socket) = self.socket() else { return };
        let bytes = std::mem::take(&mut network.pipes[socket].to_client);
        network.pipes[socket].window = if self.is_slow { 0 } else { usize::MAX / 2 };
        self.received.extend(bytes);
        if let State::Connecting(_) = self.state {
            let Some(end) = self.received.windows(4).position(|four| four == b"\r\n\r\n") else {
                return self.notice_the_end(network, socket);
            };
            if !self.received.starts_with(b"HTTP/1.1 101") {
                network.pipes[socket].client_finished = true;
                return self.disconnected();
            }
            self.received.drain(..end + 4);
            self.state = State::Open(socket);
        }
        let received = std::mem::take(&mut self.received);
        let mut rest = received.as_slice();
        while let Some((opcode, payload, after)) = split_frame(rest) {
            rest = after;
            match opcode {
                1 => self.message(payload, network, store, verdicts),
                8 => {
                    network.pipes[socket].to_server.extend(masked_frame(8, payload.get(..2).unwrap_or_default()));
                    network.pipes[socket].client_finished = true;
                    return self.disconnected();
                }
                9 => network.pipes[socket].to_server.extend(masked_frame(10, payload)),
                other => verdicts.broken(format!("a frame with opcode {other}")),
            }
            if self.state == State::Away {
                return;
            }
        }
        self.received = rest.to_vec();
        self.notice_the_end(network, socket);
    }

    fn notice_the_end(&mut self, network: &mut Network, socket: usize) {
        let pipe = &mut network.pipes[socket];
        if (pipe.server_finished || pipe.server_gone) && pipe.to_client.is_empty() {
            pipe.client_finished = true;
            self.disconnected();
        }
    }

    fn message(&mut self, payload: &[u8], network: &mut Network, store: &Store, verdicts: &Verdicts) {
        let Ok(frame) = serde_json::from_slice::<Value>(payload) else {
            return verdicts.broken("a frame that is no JSON");
        };
        self.trace("receives", &frame);
        let (kind, data) = (frame["type"].as_str().unwrap_or_default(), &frame["data"]);
        let conversation = data["conversation_id"].as_str().and_then(ConversationId::parse);
        match (kind, conversation) {
            ("welcome", _) => self.welcome(data, network),
            ("ack", _) => self.ack(frame["id"].as_i64(), data, store, verdicts),
            ("error", _) => self.error(frame["id"].as_i64(), data, store, verdicts),
            ("caught_up" | "lagging", Some(conversation)) => {
                let (at, cursor) = (data["seq"].as_i64(), self.cursors.get(&conversation).copied());
                verdicts.check(cursor.is_none() || at == cursor, || {
                    format!("{kind} at {at:?} of {conversation}, but the client stands at {cursor:?}")
                });
            }
            ("reset", _) => verdicts.broken("a reset, although no log is long or shortened"),
            ("presence", _) => {
                if let (Some(user), Some(text)) = (data["user_id"].as_i64(), data["status_text"].as_str()) {
                    self.presence.insert(UserId(user), text.to_owned());
                }
            }
            ("typing" | "read_updated", Some(conversation)) => {
                // The own marker comes from another device, also to those that do not follow the conversation.
                let is_own = data["user_id"].as_i64() == Some(self.user.0);
                let follows = self.cursors.contains_key(&conversation) && !self.left.contains(&conversation);
                verdicts.check(is_own || follows, || {
                    format!("device {} got {kind} of {conversation}, which it does not follow: {data}", self.device)
                });
            }
            (_, Some(conversation)) => {
                if let Some(seq) = data["seq"].as_i64() {
                    self.event(kind, conversation, seq, data, store, verdicts);
                }
            }
            (_, None) => {}
        }
    }

    fn welcome(&mut self, data: &Value, network: &mut Network) {
        for head in data["conversations"].as_array().into_iter().flatten() {
            let (id, last_seq) = (head["id"].as_str().and_then(ConversationId::parse), head["last_seq"].as_i64());
            let (Some(id), Some(last_seq)) = (id, last_seq) else { continue };
            self.cursors.insert(id, last_seq);
            match self.known.get(&id).copied() {
                None => {
                    self.known.insert(id, last_seq);
                }
                Some(known) if known < last_seq => self.subscribe(network, id),
                Some(_) => {}
            }
        }
        if !self.subscribe_all {
            self.resume(network);
        }
        self.send_again(network);
    }

    fn event(
        &mut self,
        kind: &str,
        conversation: ConversationId,
        seq: i64,
        data: &Value,
        store: &Store,
        verdicts: &Verdicts,
    ) {
        let about_me = data["user_id"].as_i64() == Some(self.user.0);
        let cursor = self.cursors.get(&conversation).copied();
        // A conversation that the user has just joined begins with the event that says so. To a client that follows it
        // already, this event is one like any other: a gap before it is a gap.
        let follows = cursor.is_some() && !self.left.contains(&conversation);
        let begins = self.subscribe_all && kind == "member_joined" && about_me && !follows;
        verdicts.check(cursor.is_some_and(|cursor| seq == cursor + 1) || begins, || {
            format!("device {} got {kind} {seq} of {conversation} while it stands at {cursor:?}", self.device)
        });
        let is_right = match store.entry(conversation, seq) {
            Some(Entry::Message { id, sender, content, key }) => {
                kind == "message_created"
                    && data["message_id"].as_i64() == Some(id.0)
                    && data["content"].as_str() == Some(content)
                    && data["client_message_id"].as_str() == (*sender == self.user).then_some(key.as_str())
            }
            Some(Entry::Membership { user, joined }) => {
                kind == if *joined { "member_joined" } else { "member_left" }
                    && data["user_id"].as_i64() == Some(user.0)
            }
            None => false,
        };
        verdicts.check(is_right, || format!("event {seq} of {conversation} is not what the log has: {data}"));
        self.cursors.insert(conversation, seq);
        let known = self.known.entry(conversation).or_default();
        *known = (*known).max(seq);
        // The subscription ends with the event that says so, unless a replay goes on: the user has joined again since.
        if kind == "member_left" && about_me {
            self.left.insert(conversation);
        } else {
            self.left.remove(&conversation);
        }
    }

    fn ack(&mut self, id: Option<i64>, data: &Value, store: &Store, verdicts: &Verdicts) {
        let Some(command) = id.and_then(|id| self.outstanding.remove(&id)) else {
            return verdicts.broken(format!("an ack for {id:?}, which waits for none"));
        };
        match command {
            Command::Send { conversation, key } => {
                let (seq, message) = (data["seq"].as_i64().unwrap_or(0), data["message_id"].as_i64());
                let is_right = matches!(
                    store.entry(conversation, seq),
                    Some(Entry::Message { id, sender, key: stored, .. })
                        if *sender == self.user && *stored == key && Some(id.0) == message
                );
                verdicts.check(is_right, || format!("the ack of {key} names seq {seq}, where the log has another"));
                self.unsent.retain(|message| message.key != key);
                self.acked.push((conversation, key));
            }
            Command::Subscribe { conversation, after } => {
                self.left.remove(&conversation);
                let last_seq = data["last_seq"].as_i64().unwrap_or(0);
                self.cursors.insert(conversation, after.unwrap_or(last_seq));
                self.known.entry(conversation).or_insert(last_seq);
            }
            Command::Resume { cursors } => {
                for (conversation, after) in cursors {
                    if data["conversations"].get(conversation.to_string()).is_some() {
                        self.left.remove(&conversation);
                        self.cursors.insert(conversation, after);
                    }
                }
            }
            Command::Unsubscribe { conversation } => {
                self.cursors.remove(&conversation);
            }
            Command::GetPresence => {
                let shown = data["presence"].as_array().into_iter().flatten();
                self.watched.extend(shown.filter_map(|shown| shown["user_id"].as_i64()).map(UserId));
            }
            Command::SetPresence(text) => self.shows = Some(text),
            Command::Other => {}
        }
    }

    fn error(&mut self, id: Option<i64>, data: &Value, store: &Store, verdicts: &Verdicts) {
        let code = data["code"].as_str().unwrap_or_default();
        let Some(id) = id else {
            // A typing signal has no id. Nothing asked for the other one: a subscription ended while its subscriber was
            // catching up.
            let conversation = data["details"]["conversation_id"].as_str().and_then(ConversationId::parse);
            match conversation {
                Some(conversation) if code == "not_member" => {
                    self.cursors.remove(&conversation);
                }
                None if matches!(code, "overloaded" | "storage_unavailable" | "not_member" | "blocked") => {}
                _ => verdicts.broken(format!("an error that answers nothing: {data}")),
            }
            return;
        };
        let Some(command) = self.outstanding.remove(&id) else {
            return verdicts.broken(format!("an error for {id}, which waits for no answer: {data}"));
        };
        verdicts.check(code != "internal" && code != "bad_request", || format!("{command:?} was refused: {data}"));
        if let Command::Send { conversation, key } = &command
            && code == "filtered"
        {
            let number = key.split_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(0);
            let place = (*conversation, self.user, key.clone());
            if let Some(fault) = store.moderation.refusal_fault(&place, number, &data["details"]) {
                verdicts.broken(fault);
            }
        }
        if let Command::Send { key, .. } = command
            && !matches!(code, "storage_unavailable" | "overloaded" | "deadline_exceeded" | "rate_limited")
        {
            self.unsent.retain(|message| message.key != key);
        }
    }

    /// How many messages were acknowledged, those that were sent again each time.
    #[must_use]
    pub fn acked(&self) -> usize {
        self.acked.len()
    }

    /// What must hold when everything has settled.
    pub fn check_acked(&self, store: &Store, verdicts: &Verdicts) {
        for (conversation, key) in &self.acked {
            let copies = store.copies(*conversation, self.user, key);
            verdicts.check(copies == 1, || format!("{key} was acknowledged and is in the log {copies} times"));
        }
    }
}
