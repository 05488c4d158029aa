//! The server's notices about the stream of events itself.

use super::state::{Cursor, VezaProtocol, VezaState};
use super::wire::{Lenient, ServerMessage};
use crate::check::Seq;
use crate::protocol::{Peer, Sink};
use crate::violations::ViolationKind;

impl VezaProtocol {
    /// The first frame has the heads of the conversations. Later connections resume from their cursors instead.
    pub(super) fn welcome<S: Sink>(&mut self, peer: &mut Peer<VezaState>, frame: ServerMessage<'_>, sink: &mut S) {
        if std::mem::replace(&mut peer.state.welcomed, true) {
            let client = peer.client.0;
            return sink
                .violation(ViolationKind::Protocol, || format!("client {client}: a second welcome on one connection"));
        }
        if peer.reopened {
            self.resume(peer);
            return sink.ready();
        }
        // An attempt that failed after its welcome left its cursors behind.
        peer.state.cursors.clear();
        let conversations = frame.data.conversations.and_then(Lenient::wanted).unwrap_or_default();
        for conversation in &conversations {
            if let Some(room) = self.system.room_index.get(&conversation.id).copied() {
                let last = conversation.last_seq;
                if self.system.options.checks {
                    self.system.checker(room).subscribed(peer.client, Seq(last));
                }
                peer.state.cursors.push(Cursor { room, last, target: 0, resuming: false });
            }
        }
        let missing = peer.rooms.iter().find(|room| peer.state.cursors.iter().all(|cursor| cursor.room != **room));
        match missing {
            None => sink.ready(),
            Some(room) => {
                let id = &self.system.rooms[*room as usize];
                sink.fail(format!("its user joined {id}, but the welcome frame does not list it"));
            }
        }
    }

    pub(super) fn stream_notice<S: Sink>(
        &mut self,
        peer: &mut Peer<VezaState>,
        frame: &ServerMessage<'_>,
        sink: &mut S,
    ) {
        let named = frame.data.conversation_id.as_ref();
        let room = named.and_then(|id| self.system.room_index.get(id.0.as_ref())).copied();
        let client = peer.client;
        let Some(cursor) = room.and_then(|room| peer.state.cursor(room)) else { return };
        let room = cursor.room;
        match frame.kind.as_ref() {
            "caught_up" => {
                cursor.resuming = false;
                let Some(seq) = frame.data.seq else { return };
                if self.system.options.checks {
                    let mut checker = self.system.checker(room);
                    checker.advanced(client, Seq(cursor.last));
                    checker.caught_up(client, Seq(seq));
                }
                cursor.last = cursor.last.max(seq);
            }
            "reset" => {
                sink.reset();
                let last = match frame.data.last_seq {
                    Some(Lenient::Wanted(last)) => last,
                    _ => frame.data.seq.unwrap_or_default(),
                };
                let after = cursor.last;
                cursor.resuming = true;
                cursor.last = cursor.last.max(last);
                if self.system.options.checks {
                    let mut checker = self.system.checker(room);
                    checker.advanced(client, Seq(after));
                    checker.reset(client, Seq(last));
                }
                self.read_history(peer, room, after);
            }
            // The server continues by itself where it stopped, and then sends `caught_up`.
            _ => {
                sink.lagging();
                cursor.resuming = true;
            }
        }
    }
}
