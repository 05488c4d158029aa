//! The commands that a connection sends to the server, and the server's replies.

use super::log::Meaning;
use super::state::{VezaProtocol, VezaState};
use super::wire::{
    ClientCommand, CommandId, Data, Format, GetHistory, Lenient, MarkRead, MessageField, Resume, SendMessage,
    ServerMessage, Typing,
};
use crate::check::{Ack, MessageId, Refusal, Seq};
use crate::engine::websocket::Opcode;
use crate::payload::Token;
use crate::protocol::{Action, Peer, Publish, Sink};
use crate::violations::ViolationKind;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Messages in one page of history.
const HISTORY_LIMIT: u32 = 200;
/// Messages that a user requests while scrolling.
const SCROLL_LIMIT: u32 = 50;

impl VezaProtocol {
    pub(super) fn send_message(&mut self, peer: &mut Peer<VezaState>, publish: Publish) {
        let Publish { token, room, planned_ns, repeated } = publish;
        if self.system.options.checks {
            // The checker learns of it before it is written, so no delivery can arrive earlier.
            let mut checker = self.system.checker(room);
            if repeated {
                checker.resent(token);
            } else {
                checker.sent(token);
            }
        }
        let content = self.system.payload.write(token, planned_ns);
        let client_message_id = self.system.payload.client_message_id(token);
        let data = SendMessage {
            conversation_id: &self.system.rooms[room as usize],
            content: &content,
            client_message_id: &client_message_id,
        };
        queue(peer, &ClientCommand { kind: "send_message", id: CommandId::Number(u64::from(token.number)), data });
    }

    pub(super) fn send_action(&mut self, peer: &mut Peer<VezaState>, action: Action, room: u32, now_ns: u64) -> bool {
        let conversation_id = &self.system.rooms[room as usize];
        let kind = action.name();
        let id = CommandId::Word(Cow::Owned(format!("{kind}/{now_ns}")));
        match action {
            Action::Typing => queue(peer, &ClientCommand { kind, id, data: Typing { conversation_id } }),
            Action::MarkRead => {
                let Some(seq) = peer.state.cursor(room).map(|cursor| cursor.last) else { return false };
                queue(peer, &ClientCommand { kind, id, data: MarkRead { conversation_id, seq } });
            }
            Action::GetHistory => {
                let data = GetHistory { conversation_id, after_seq: None, limit: SCROLL_LIMIT };
                queue(peer, &ClientCommand { kind, id, data });
            }
        }
        peer.state.asked += u64::from(!action.is_silent());
        true
    }

    /// Requests everything after the cursors.
    pub(super) fn resume(&mut self, peer: &mut Peer<VezaState>) {
        self.share_cursors(peer);
        let mut cursors = BTreeMap::new();
        for cursor in &mut peer.state.cursors {
            cursor.resuming = true;
            cursors.insert(self.system.rooms[cursor.room as usize].as_str(), cursor.last);
        }
        queue(peer, &ClientCommand { kind: "resume", id: CommandId::Word("resume".into()), data: Resume { cursors } });
    }

    pub(super) fn read_history(&mut self, peer: &mut Peer<VezaState>, room: u32, after_seq: u64) {
        let conversation_id = &self.system.rooms[room as usize];
        let data = GetHistory { conversation_id, after_seq: Some(after_seq), limit: HISTORY_LIMIT };
        queue(
            peer,
            &ClientCommand { kind: "get_history", id: CommandId::Word(format!("history-{room}").into()), data },
        );
    }

    pub(super) fn acked<S: Sink>(&mut self, peer: &mut Peer<VezaState>, frame: ServerMessage<'_>, sink: &mut S) {
        let client = peer.client;
        let data = frame.data;
        let number = match frame.id {
            Some(CommandId::Number(number)) => u32::try_from(number).ok(),
            Some(CommandId::Word(word)) => {
                if self.word_acked(peer, &word, data, sink) {
                    return;
                }
                return sink.violation(ViolationKind::UnexpectedReply, || {
                    format!("client {}: an ack of \"{word}\"", client.0)
                });
            }
            None => None,
        };
        let Some((number, flight)) = number.and_then(|number| Some((number, sink.acked(number)?))) else {
            return sink.violation(ViolationKind::UnexpectedReply, || {
                format!("client {}: an ack of nothing that waits for one (seq {:?})", client.0, data.seq)
            });
        };
        let token = Token { client, number };
        let room = &self.system.rooms[flight.room as usize];
        match (data.message_id, data.seq) {
            (Some(id), Some(seq)) if data.conversation_id.as_ref().is_none_or(|named| named.0 == *room) => {
                if self.system.options.checks {
                    let ack = Ack { token, id: MessageId(id), seq: Seq(seq), duplicate: data.duplicate };
                    self.system.checker(flight.room).acked(ack);
                }
            }
            _ => {
                sink.violation(ViolationKind::Protocol, || {
                    format!("client {}: the ack of {token} lacks message_id or seq, or names another room", client.0)
                });
                if self.system.options.checks {
                    self.system.checker(flight.room).refused(token, Refusal::Unclear);
                }
            }
        }
    }

    /// Handles the ack of a command other than a message; false when no such command was sent.
    fn word_acked<S: Sink>(&mut self, peer: &mut Peer<VezaState>, word: &str, data: Data<'_>, sink: &mut S) -> bool {
        if word == "resume" {
            return true;
        }
        if let Some(room) = self.history_room(word) {
            self.history_page(peer, room, data, sink);
            return true;
        }
        let Some((name, started)) = word.split_once('/') else { return false };
        let action = Action::ALL.into_iter().find(|action| action.name() == name);
        match (action, started.parse()) {
            (Some(action), Ok(started_ns)) if peer.state.asked > 0 => {
                peer.state.asked -= 1;
                sink.operation(action.name(), started_ns);
            }
            _ => return false,
        }
        true
    }

    fn history_room(&self, word: &str) -> Option<u32> {
        let room = word.strip_prefix("history-")?.parse().ok()?;
        ((room as usize) < self.system.rooms.len()).then_some(room)
    }

    pub(super) fn refused<S: Sink>(&mut self, peer: &mut Peer<VezaState>, frame: ServerMessage<'_>, sink: &mut S) {
        let client = peer.client;
        let code = frame.data.code.map_or_else(|| "(no code)".to_owned(), |code| code.0.into_owned());
        let text = match frame.data.message {
            Some(MessageField::Text(words)) => words.into_owned(),
            _ => String::new(),
        };
        match frame.id {
            Some(CommandId::Number(number)) => {
                let flight = u32::try_from(number)
                    .ok()
                    .and_then(|number| Some((number, sink.refused(number, &code, frame.data.retry_after_ms)?)));
                let Some((number, flight)) = flight else {
                    return sink.violation(ViolationKind::UnexpectedReply, || {
                        format!("client {}: error {code} for nothing that waits for a reply", client.0)
                    });
                };
                let unclear = ["storage_unavailable", "deadline_exceeded", "overloaded", "internal"];
                let refusal = if unclear.contains(&code.as_str()) { Refusal::Unclear } else { Refusal::Final };
                if self.system.options.checks {
                    self.system.checker(flight.room).refused(Token { client, number }, refusal);
                }
            }
            Some(CommandId::Word(word)) => {
                sink.error(&code);
                if word.contains('/') {
                    peer.state.asked = peer.state.asked.saturating_sub(1);
                    return; // Not a message but another command: counted by its code.
                }
                if let Some(room) = self.history_room(&word) {
                    self.recovery_ended(peer, room);
                }
                sink.violation(ViolationKind::ResumeRefused, || {
                    format!("client {}: {word} refused: {code} {text}", client.0)
                });
            }
            None => {
                sink.error(&code);
                sink.violation(ViolationKind::Protocol, || {
                    format!("client {}: an error without an id: {code} {text}", client.0)
                });
            }
        }
    }

    /// A page of the history that a reset made the connection read.
    fn history_page<S: Sink>(&mut self, peer: &mut Peer<VezaState>, room: u32, data: Data<'_>, sink: &mut S) {
        let messages = data.messages.and_then(Lenient::wanted).unwrap_or_default();
        let mut lacked_any = false;
        for message in &messages {
            let content = message.content.as_deref().unwrap_or_default();
            let (event, meaning) = self.read_message(message.message_id, content);
            let lacked = !self.system.options.checks
                || self.system.checker(room).recovered(peer.client, Seq(message.seq), event);
            lacked_any |= lacked;
            if lacked && let Meaning::Ours { planned_ns, .. } = meaning {
                sink.delivered(room, planned_ns);
            }
        }
        match messages.last() {
            // A page without missing messages is past the reset: from there live events follow.
            Some(last) if data.has_more && lacked_any => self.read_history(peer, room, last.seq),
            _ => self.recovery_ended(peer, room),
        }
    }

    fn recovery_ended(&mut self, peer: &mut Peer<VezaState>, room: u32) {
        if self.system.options.checks {
            self.system.checker(room).recovery_ended(peer.client);
        }
        if let Some(cursor) = peer.state.cursor(room) {
            cursor.resuming = false;
        }
    }
}

/// Queues a command in the connection's format.
fn queue<D: Serialize>(peer: &mut Peer<VezaState>, command: &ClientCommand<'_, D>) {
    let (format, opcode) = match peer.state.format {
        Format::Json => (Format::Json, Opcode::Text),
        Format::Msgpack => (Format::Msgpack, Opcode::Binary),
    };
    // Maps with text keys and plain values always serialise, and a Vec takes all of them.
    peer.out.frame(opcode, |out| drop(format.encode(command, out)));
}
