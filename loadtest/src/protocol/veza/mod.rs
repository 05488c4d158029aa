//! Veza Chat Server: protocol `veza.v1` in JSON and `MessagePack`, held to all its promises.
//!
//! The promises are kept by one [`RoomChecker`] per room, behind a lock that all threads share. So that a delivery costs
//! a comparison of memory instead of a lock and a decoding, each thread remembers the frames of recent events
//! ([`log`]) and each connection keeps its cursors itself:
//!
//! ```text
//!  bytes ──▶ equal to the logged frame of cursor + 1 in the room that spoke last ──▶ counted, cursor + 1
//!    │ no
//!    ▼
//!  room and number by their keys (hint) ──▶ equal to what is logged there, and number = cursor + 1 ──▶ the same
//!    │ no
//!    ▼
//!  decoded; cursor told to the checker; event given to the checker; cursor taken back; logged when sound
//! ```
//!
//! What the fast path relies on, each of it a fault that would otherwise be overlooked:
//! - only sound events are logged, so equal bytes are sound;
//! - it accepts nothing but `cursor + 1`: gaps, repetitions and disorder always come to the checker;
//! - a connection's own message is accepted only when its acknowledgement has come;
//! - whoever reads a cursor from the checker must have told it first: at every slow step, when a connection resumes, and
//!   in [`Protocol::sync`].

mod commands;
mod hint;
mod log;
mod notices;
pub mod wire;

use crate::check::{ClientIndex, Event, MessageId, RoomChecker, Seq};
use crate::payload::{PayloadFormat, Reading};
use crate::protocol::{Action, Message, Peer, Protocol, Publish, Sink, System, Upgrade};
use crate::violations::{Kind, Violations};
use foldhash::HashMap;
use hint::Hints;
use log::{Meaning, RoomLog};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wire::{Data, Format, Frame, MessageField};

/// What a server of this kind and a run need.
#[derive(Debug)]
pub struct Veza {
    /// The rooms' identifiers, by index.
    rooms: Vec<String>,
    /// The rooms' indices, by identifier.
    room_index: HashMap<String, u32>,
    /// One checker a room, by index. Each has its own lock: rooms do not wait for each other.
    checkers: Vec<Mutex<RoomChecker>>,
    /// The users' access tokens, by index.
    tokens: Vec<Mutex<String>>,
    /// Contents of this run.
    payload: PayloadFormat,
    options: VezaOptions,
}

/// How connections are made.
#[derive(Clone, Debug)]
pub struct VezaOptions {
    /// The formats; connections take them in turn.
    pub formats: Vec<Format>,
    /// Offer permessage-deflate.
    pub compression: bool,
    /// Hold the server to its promises.
    pub checks: bool,
}

/// Locks a mutex; a panic elsewhere does not hide what was found until then.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Veza {
    /// A run in `rooms` by users with `tokens`.
    pub fn new(rooms: Vec<String>, tokens: Vec<String>, payload: PayloadFormat, options: VezaOptions) -> Self {
        Self {
            room_index: rooms.iter().cloned().zip(0..).collect(),
            checkers: rooms.iter().map(|id| Mutex::new(RoomChecker::new(id))).collect(),
            rooms,
            tokens: tokens.into_iter().map(Mutex::new).collect(),
            payload,
            options,
        }
    }

    /// A user has a new access token.
    pub fn renew(&self, user: u32, token: String) {
        if let Some(known) = self.tokens.get(user as usize) {
            *lock(known) = token;
        }
    }

    fn checker(&self, room: u32) -> MutexGuard<'_, RoomChecker> {
        lock(&self.checkers[room as usize])
    }
}

impl System for Veza {
    type Protocol = VezaProtocol;

    fn protocol(self: &Arc<Self>) -> VezaProtocol {
        let rooms = self.rooms.len();
        VezaProtocol {
            system: Arc::clone(self),
            logs: (0..rooms).map(|_| RoomLog::new(rooms)).collect(),
            hints: Hints::default(),
        }
    }

    fn settled(&self) -> bool {
        !self.options.checks || self.checkers.iter().all(|checker| lock(checker).settled())
    }

    fn finish(&self, complete: bool) -> Violations {
        let mut violations = Violations::default();
        if self.options.checks {
            for checker in &self.checkers {
                let checker = std::mem::replace(&mut *lock(checker), RoomChecker::new(""));
                violations.merge(checker.finish(complete));
            }
        }
        violations
    }
}

/// A connection's place in one room.
#[derive(Debug)]
struct Cursor {
    room: u32,
    /// The last number it has.
    last: u64,
    /// It is behind until it has this one.
    target: u64,
    /// The server owes it a `caught_up`.
    resuming: bool,
}

/// What the protocol remembers of a connection.
#[derive(Debug)]
pub struct VezaState {
    format: Format,
    cursors: Vec<Cursor>,
    /// Which of them spoke last.
    recent: usize,
    /// This connection's first frame has come.
    welcomed: bool,
    /// Commands other than messages that wait for their answer.
    asked: u64,
}

impl VezaState {
    fn cursor(&mut self, room: u32) -> Option<&mut Cursor> {
        self.cursors.iter_mut().find(|cursor| cursor.room == room)
    }
}

/// One thread's side.
#[derive(Debug)]
pub struct VezaProtocol {
    system: Arc<Veza>,
    logs: Vec<RoomLog>,
    hints: Hints,
}

impl Protocol for VezaProtocol {
    type State = VezaState;

    fn state(&mut self, client: ClientIndex, _rooms: &[u32]) -> VezaState {
        let formats = &self.system.options.formats;
        let format = formats.get(client.0 as usize % formats.len().max(1)).copied().unwrap_or(Format::Json);
        VezaState { format, cursors: Vec::new(), recent: 0, welcomed: false, asked: 0 }
    }

    fn upgrade(&mut self, peer: &Peer<VezaState>) -> Upgrade {
        // Again: from the cursors, not from wherever the server is.
        let subscribe = if peer.reopened { "none" } else { "all" };
        let token = self.system.tokens.get(peer.user as usize).map(|token| lock(token).clone()).unwrap_or_default();
        Upgrade {
            path: format!("/ws?subscribe={subscribe}"),
            headers: vec![("Authorization", format!("Bearer {token}"))],
            subprotocol: Some(peer.state.format.subprotocol()),
            deflate: self.system.options.compression,
        }
    }

    fn opened<S: Sink>(&mut self, peer: &mut Peer<VezaState>, _sink: &mut S) {
        // The welcome frame says when it is ready.
        peer.state.welcomed = false;
    }

    fn message<S: Sink>(&mut self, peer: &mut Peer<VezaState>, message: Message<'_>, sink: &mut S) {
        if self.logged(peer, message, sink) {
            return;
        }
        let frame = match peer.state.format.decode(message.text, message.payload) {
            Ok(frame) => frame,
            Err(reason) => {
                return sink.violation(Kind::Protocol, || format!("client {}: {reason}", peer.client.0));
            }
        };
        match frame.kind.as_ref() {
            "ack" => self.acked(peer, frame, sink),
            "error" => self.refused(peer, frame, sink),
            "caught_up" | "reset" | "lagging" => self.stream_notice(peer, &frame, sink),
            "going_away" => sink.going_away(frame.data.retry_after_ms),
            "welcome" => self.welcome(peer, frame, sink),
            // These have no number of their own; a `seq` in them refers to another event.
            "mention" | "read_updated" | "typing" | "presence" => sink.other_event(),
            _ => self.event(peer, frame, message.frame, sink),
        }
    }

    #[inline]
    fn fast<S: Sink>(&mut self, peer: &mut Peer<VezaState>, bytes: &[u8], sink: &mut S) -> usize {
        let mut taken = 0;
        let Some(cursor) = peer.state.cursors.get_mut(peer.state.recent) else { return 0 };
        let log = &self.logs[cursor.room as usize];
        while let Some(entry) = log.get(cursor.last + 1) {
            let Some(length) = entry.length_in(&bytes[taken..]) else { break };
            if !arrive(entry.meaning, peer.client, cursor.room, sink) {
                break;
            }
            cursor.last += 1;
            taken += length;
        }
        taken
    }

    fn publish(&mut self, peer: &mut Peer<VezaState>, publish: Publish) {
        self.send_message(peer, publish);
    }

    fn act(&mut self, peer: &mut Peer<VezaState>, action: Action, room: u32, now_ns: u64) -> bool {
        self.send_action(peer, action, room, now_ns)
    }

    fn lost(&mut self, peer: &mut Peer<VezaState>) {
        // Their answers are lost with the connection, and they are not asked again.
        peer.state.asked = 0;
    }

    fn unanswered(&self, peer: &Peer<VezaState>) -> u64 {
        peer.state.asked
    }

    fn fall_behind(&mut self, peer: &mut Peer<VezaState>) {
        for cursor in &mut peer.state.cursors {
            cursor.target = self.logs[cursor.room as usize].newest();
        }
    }

    fn caught_up(&self, peer: &Peer<VezaState>) -> bool {
        peer.state.cursors.iter().all(|cursor| !cursor.resuming && cursor.last >= cursor.target)
    }

    fn sync(&mut self, peer: &mut Peer<VezaState>) {
        if self.system.options.checks {
            for cursor in &peer.state.cursors {
                self.system.checker(cursor.room).advanced(peer.client, Seq(cursor.last));
            }
        }
    }
}

/// An event that equals a sound one arrives at a connection. False when it may not yet: it is the connection's own, and
/// the acknowledgement has not come.
#[inline]
fn arrive<S: Sink>(meaning: Meaning, client: ClientIndex, room: u32, sink: &mut S) -> bool {
    match meaning {
        Meaning::Ours { token, .. } if token.client == client && sink.waits(token.number) => return false,
        Meaning::Ours { planned_ns, .. } => sink.delivered(room, planned_ns),
        Meaning::Other => sink.other_event(),
    }
    true
}

impl VezaProtocol {
    /// The second step of the fast path: true when the message is the next event of one of the connection's rooms, and
    /// known.
    fn logged<S: Sink>(&mut self, peer: &mut Peer<VezaState>, message: Message<'_>, sink: &mut S) -> bool {
        if message.frame.is_empty() {
            return false;
        }
        let Some((id, seq)) = self.hints.find(peer.state.format, message.payload) else { return false };
        let Some(room) = self.system.room_index.get(id).copied() else { return false };
        let Some(entry) = self.logs[room as usize].get(seq) else { return false };
        let Some(at) = peer.state.cursors.iter().position(|cursor| cursor.room == room) else { return false };
        if peer.state.cursors[at].last + 1 != seq || entry.length_in(message.frame) != Some(message.frame.len()) {
            return false;
        }
        if !arrive(entry.meaning, peer.client, room, sink) {
            return false;
        }
        peer.state.cursors[at].last = seq;
        peer.state.recent = at;
        true
    }

    /// A numbered event that the thread has not seen in this form, or that is not the next one.
    fn event<S: Sink>(&mut self, peer: &mut Peer<VezaState>, frame: Frame<'_>, raw: &[u8], sink: &mut S) {
        let Frame { kind, data, .. } = frame;
        let room = data.conversation_id.as_ref().and_then(|id| self.system.room_index.get(id.0.as_ref())).copied();
        let (Some(room), Some(seq)) = (room, data.seq) else { return sink.other_event() };
        if peer.state.cursor(room).is_none() {
            return sink.violation(Kind::Leak, || {
                format!(
                    "client {}: {kind} of {} at seq {seq}, where it is not",
                    peer.client.0, self.system.rooms[room as usize]
                )
            });
        }
        let (event, meaning) = if kind == "message_created" {
            match self.message_of(data) {
                Some(known) => known,
                None => {
                    return sink.violation(Kind::Protocol, || {
                        format!("client {}: message_created at seq {seq} without a message_id", peer.client.0)
                    });
                }
            }
        } else {
            (Event::Other, Meaning::Other)
        };
        let sound = self.deliver(peer, room, Seq(seq), event);
        match meaning {
            Meaning::Ours { planned_ns, .. } => sink.delivered(room, planned_ns),
            Meaning::Other => sink.other_event(),
        }
        if sound && !raw.is_empty() {
            self.logs[room as usize].insert(seq, meaning, raw);
        }
    }

    /// Gives an event to the checker, with the cursor before it; answers whether it is sound.
    fn deliver(&mut self, peer: &mut Peer<VezaState>, room: u32, seq: Seq, event: Event) -> bool {
        let client = peer.client;
        let Some(at) = peer.state.cursors.iter().position(|cursor| cursor.room == room) else { return false };
        peer.state.recent = at;
        let cursor = &mut peer.state.cursors[at];
        if !self.system.options.checks {
            cursor.last = cursor.last.max(seq.0);
            return true;
        }
        let mut checker = self.system.checker(room);
        checker.advanced(client, Seq(cursor.last));
        checker.delivered(client, seq, event);
        cursor.last = checker.cursor(client).map_or(cursor.last, |seq| seq.0);
        checker.is_sound(seq, event)
    }

    /// What a `message_created` is; `None` when it lacks its identifier.
    fn message_of(&self, data: Data<'_>) -> Option<(Event, Meaning)> {
        match (data.message_id, data.content, data.message) {
            (Some(id), content, _) => {
                Some(self.read_message(id, content.as_ref().map(|content| content.0.as_ref()).unwrap_or_default()))
            }
            (None, _, Some(MessageField::Nested(message))) => {
                Some(self.read_message(message.message_id, message.content.as_deref().unwrap_or_default()))
            }
            _ => None,
        }
    }

    /// What a message is to the checker and to those who get it.
    fn read_message(&self, id: u64, content: &str) -> (Event, Meaning) {
        let id = MessageId(id);
        match self.system.payload.read(content) {
            Reading::Ours { token, planned_ns } => {
                (Event::Message { id, token: Some(token) }, Meaning::Ours { token, planned_ns })
            }
            Reading::Foreign => (Event::Message { id, token: None }, Meaning::Other),
            Reading::Corrupted => (Event::Garbled { id }, Meaning::Other),
        }
    }
}
