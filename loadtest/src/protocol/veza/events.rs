//! Numbered events: known frames on the fast path, all others to the checker.

use super::log::Meaning;
use super::state::{VezaProtocol, VezaState};
use super::wire::{Data, MessageField, ServerMessage};
use crate::check::{ClientIndex, Event, MessageId, Seq};
use crate::payload::Reading;
use crate::protocol::{Message, Peer, Sink};
use crate::violations::ViolationKind;

/// Counts an event that equals a sound one. False when it is too early: it is the connection's own message, whose
/// acknowledgement has not arrived.
#[inline]
pub(super) fn arrive<S: Sink>(meaning: Meaning, client: ClientIndex, room: u32, sink: &mut S) -> bool {
    match meaning {
        Meaning::Ours { token, .. } if token.client == client && sink.waits(token.number) => return false,
        Meaning::Ours { planned_ns, .. } => sink.delivered(room, planned_ns),
        Meaning::Other => sink.other_event(),
    }
    true
}

impl VezaProtocol {
    /// The second step of the fast path: true when the message is a known event, and the next one of a room of the
    /// connection.
    pub(super) fn logged<S: Sink>(&mut self, peer: &mut Peer<VezaState>, message: Message<'_>, sink: &mut S) -> bool {
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
    pub(super) fn event<S: Sink>(
        &mut self,
        peer: &mut Peer<VezaState>,
        frame: ServerMessage<'_>,
        raw: &[u8],
        sink: &mut S,
    ) {
        let ServerMessage { kind, data, .. } = frame;
        let room = data.conversation_id.as_ref().and_then(|id| self.system.room_index.get(id.0.as_ref())).copied();
        let (Some(room), Some(seq)) = (room, data.seq) else { return sink.other_event() };
        if peer.state.cursor(room).is_none() {
            return sink.violation(ViolationKind::Leak, || {
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
                    return sink.violation(ViolationKind::Protocol, || {
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

    /// Reports the cursor and the event to the checker; returns whether the event is sound.
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

    /// Reads a `message_created`; `None` when it lacks its identifier.
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

    /// What a message is for the checker and for its receivers.
    pub(super) fn read_message(&self, id: u64, content: &str) -> (Event, Meaning) {
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
