//! Replays: what a subscriber has missed, read from the log page by page, between its queue and the live events.
//!
//! One page at a time per connection, and only while its queue is less than half full; live events pass a subscriber
//! by until it has read up to the newest one (`chat::subscribers`). So what it is given is the log, in order.

use super::Shard;
use super::commands::not_a_member;
use super::owner::{event_data, thread_data};
use super::pending::{Asked, Pending, Wanted};
use crate::chat::subscribers::{Phase, Subscriber};
use crate::error::{ErrorCode, Refusal};
use crate::ids::{ConnId, ConversationId, Seq};
use crate::limits::{REPLAY_EVENTS_MAX, REPLAY_PAGE_EVENTS, SUBSCRIPTIONS_PER_CONNECTION_MAX};
use crate::mesh::frame::{Answer, LogPage, Query};
use crate::mesh::record::LogEntry;
use serde_json::{Map, json};
use std::collections::{HashMap, HashSet};

impl Shard {
    /// `subscribe` and `resume`: the heads came back. Ack first, then what was missed.
    pub(super) fn heads_answered(&mut self, asked: Asked, wanted: Wanted, answer: Answer) {
        let heads = match answer {
            Answer::Heads(heads) => heads,
            Answer::Refused(refusal) => return self.refuse(asked, &refusal, true),
            _ => return,
        };
        let Some(conn) = asked.origin.connection() else { return };
        let by_conversation: HashMap<ConversationId, Seq> = heads.iter().copied().collect();
        if let Some(session) = self.session(conn)
            && session.subscriptions.len() + heads.len() > SUBSCRIPTIONS_PER_CONNECTION_MAX
        {
            let has: HashSet<ConversationId> = session.subscriptions.iter().copied().collect();
            let new = by_conversation.keys().filter(|conversation| !has.contains(conversation)).count();
            if has.len() + new > SUBSCRIPTIONS_PER_CONNECTION_MAX {
                let words = format!(
                    "a connection can have {SUBSCRIPTIONS_PER_CONNECTION_MAX} subscriptions; unsubscribe from some, or open \
                     another connection"
                );
                return self.refuse(asked, &Refusal::new(ErrorCode::Conflict, words), true);
            }
        }
        let Wanted { conversations: wanted, impossible } = wanted;
        let head_of = |conversation: ConversationId| by_conversation.get(&conversation).copied();
        let is_resume = crate::wire::command::Command::NAMES.get(asked.command) == Some(&"resume");
        if is_resume {
            let known: Map<_, _> = heads.iter().map(|(c, seq)| (c.to_string(), json!({ "last_seq": seq }))).collect();
            let refused = wanted.iter().map(|(c, _)| *c).filter(|c| head_of(*c).is_none()).map(|c| c.to_string());
            let refused: Vec<_> = refused.chain(impossible).collect();
            self.acknowledge(asked, &json!({ "conversations": known, "not_member": refused }));
        } else {
            match wanted.first().and_then(|(c, _)| head_of(*c)) {
                Some(last_seq) => self.acknowledge(asked, &json!({ "last_seq": last_seq })),
                None => return self.refuse(asked, &not_a_member(), true),
            }
        }
        let Some(session) = self.session(conn) else { return };
        let (format, user) = (session.format.bit(), session.user);
        for (conversation, after) in wanted {
            let Some(last_seq) = head_of(conversation) else { continue };
            let mut cursor = after.unwrap_or(last_seq);
            let mut announce = after.is_some();
            // Too far behind, or ahead of a log that was restored from a backup: the client starts afresh.
            if cursor > last_seq || last_seq.0 - cursor.0 > REPLAY_EVENTS_MAX {
                self.say(conn, "reset", None, &json!({ "conversation_id": conversation, "last_seq": last_seq }));
                cursor = last_seq;
                announce = false;
            }
            let phase = Phase::CatchingUp;
            self.subscribe(Subscriber { conn, cursor, phase, announce, must_read: false, format }, conversation);
        }
        self.apply_recent_changes(user, &by_conversation);
    }

    /// Puts a conversation on a connection's list of replays.
    pub(super) fn want_replay(&mut self, conn: ConnId, conversation: ConversationId) {
        let Some(session) = self.session(conn) else { return };
        if !session.replays.contains(&conversation) {
            session.replays.push_back(conversation);
        }
        self.pump_replays(conn);
    }

    /// Reads the next page for a connection if it may have one now.
    pub(super) fn pump_replays(&mut self, conn: ConnId) {
        let half_full = self.settings.limits.max_outbound_queue_bytes / 2;
        let queued = self.sockets.queued_bytes(conn);
        let Some(session) = self.session(conn) else { return };
        if session.replay_in_flight || queued > half_full {
            return; // goes on when the page comes, or the queue has drained
        }
        let user = session.user;
        while let Some(conversation) = self.session(conn).and_then(|s| s.replays.pop_front()) {
            let cursor = self
                .rooms
                .get_mut(&conversation)
                .and_then(|room| room.subscriber(conn))
                .and_then(|s| (s.phase == Phase::CatchingUp).then_some(s.cursor));
            let Some(after) = cursor else { continue };
            let query = Query::Log { conversation, after, limit: REPLAY_PAGE_EVENTS };
            let sent = self.read(user, query, Pending::Replay(conn, conversation)).is_ok();
            let Some(session) = self.session(conn) else { return };
            if sent {
                session.replay_in_flight = true;
            } else {
                session.replays.push_front(conversation);
                if !session.replay_waits {
                    session.replay_waits = true;
                    self.replays_waiting.push_back(conn);
                }
            }
            return;
        }
    }

    /// Connections that had no room among the reads.
    pub(super) fn serve_waiting_replays(&mut self) {
        for _ in 0..self.replays_waiting.len() {
            if self.reads_in_flight >= crate::limits::READS_IN_FLIGHT_PER_SHARD {
                return;
            }
            let Some(conn) = self.replays_waiting.pop_front() else { return };
            if let Some(session) = self.session(conn) {
                session.replay_waits = false;
                self.pump_replays(conn);
            }
        }
    }

    /// A page of the log came back.
    pub(super) fn log_answered(&mut self, conn: ConnId, conversation: ConversationId, answer: Answer) {
        let Some(session) = self.session(conn) else { return };
        session.replay_in_flight = false;
        match answer {
            Answer::Log(page) => self.give_page(conn, conversation, *page),
            Answer::Refused(refusal) if matches!(refusal.code, ErrorCode::NotMember | ErrorCode::NotFound) => {
                self.unsubscribe(conn, conversation);
            }
            _ => {
                // The store is away for a moment: the subscriber stays where it is and tries again.
                session.replays.push_back(conversation);
                return self.replays_failed.push(conn);
            }
        }
        self.pump_replays(conn);
    }

    fn give_page(&mut self, conn: ConnId, conversation: ConversationId, page: LogPage) {
        let queue_max = self.settings.limits.max_outbound_queue_bytes;
        let mut to_end = page.complete;
        for entry in page.entries {
            let room = self.rooms.get_mut(&conversation);
            let Some(subscriber) = room.and_then(|room| room.subscriber(conn)) else { return };
            // The client may have subscribed anew, with another cursor, since the page was asked for.
            if subscriber.phase != Phase::CatchingUp || entry.seq() != subscriber.cursor.next() {
                to_end = false;
                break;
            }
            if self.sockets.queued_bytes(conn) > queue_max {
                to_end = false; // goes on when the queue has drained
                break;
            }
            let seq = entry.seq();
            match entry {
                LogEntry::Message(message) => {
                    self.say(conn, "message_created", None, &*message);
                    if let Some(thread) = &message.parent_thread {
                        self.say(conn, "thread_updated", None, &thread_data(conversation, thread));
                    }
                }
                LogEntry::Event(event) => {
                    let (_, kind, data, thread) = event_data(conversation, event);
                    self.say(conn, &kind, None, &data);
                    if let Some(thread) = thread {
                        self.say(conn, "thread_updated", None, &thread_data(conversation, &thread));
                    }
                }
            }
            self.counters.events_delivered.add(1);
            if let Some(subscriber) = self.rooms.get_mut(&conversation).and_then(|room| room.subscriber(conn)) {
                subscriber.advance(seq);
            }
        }
        if to_end {
            self.progress(conn, conversation, true);
        } else {
            self.want_replay(conn, conversation);
        }
    }

    /// Everything queued for a connection has left.
    pub(super) fn drained(&mut self, conn: ConnId) {
        let Some(session) = self.session(conn) else { return };
        if session.lagging_since_ms.is_none() && session.replays.is_empty() {
            return; // as after nearly every send
        }
        if session.lagging_since_ms.take().is_some() {
            for conversation in std::mem::take(&mut session.behind) {
                let subscriber = self.rooms.get_mut(&conversation).and_then(|room| room.subscriber(conn));
                let Some(subscriber) = subscriber.filter(|s| s.phase == Phase::CatchingUp) else { continue };
                subscriber.announce = true;
                let cursor = subscriber.cursor;
                self.say(conn, "lagging", None, &json!({ "conversation_id": conversation, "seq": cursor }));
                self.want_replay(conn, conversation);
            }
        }
        self.pump_replays(conn);
    }
}
