//! Replays: the events that a subscriber has missed, read from the log page by page, between its queue and the live
//! events.
//!
//! One page at a time per connection, and only while its queue is less than half full. Live events pass a subscriber by
//! until it has read up to the newest one (`chat::subscribers`). So what it receives is the log, in order.

use super::Shard;
use super::publish::thread_data;
use super::rate_limits::Budget;
use super::refusals::{not_a_member, too_many_subscriptions};
use super::requests::{Pending, Subscribing};
use super::session::Session;
use super::world::{Transport, World};
use crate::chat::subscribers::{Mode, Subscriber};
use crate::error::{ErrorCode, Refusal};
use crate::ids::{ConnId, ConversationId, Seq};
use crate::limits::{REPLAY_EVENTS_MAX, REPLAY_PAGE_EVENTS, SUBSCRIPTIONS_PER_CONNECTION_MAX};
use crate::mesh::frame::{Answer, LogPage, Query};
use crate::mesh::record::{LogEntry, ShownEvent, shown_event};
use crate::planted::{Fault, is_planted};
use serde_json::{Map, json};
use std::collections::{HashMap, HashSet};

/// Pages of the log that a `subscribe` or `resume` asks for, at least one for each conversation that is behind.
fn pages_to_replay(wanted: &[(ConversationId, Option<Seq>)], heads: &HashMap<ConversationId, Seq>) -> u32 {
    let pages = wanted.iter().filter_map(|(conversation, after)| {
        let missed = heads.get(conversation)?.0 - (*after)?.0;
        (1..=REPLAY_EVENTS_MAX).contains(&missed).then(|| (missed as u64).div_ceil(REPLAY_PAGE_EVENTS as u64) as u32)
    });
    pages.fold(0, u32::saturating_add)
}

impl<W: World> Shard<W> {
    /// `subscribe` and `resume`: the heads were read. Ack first, then what was missed.
    pub(super) fn heads_answered(
        &mut self,
        subscribing: Subscribing,
        heads: Result<Vec<(ConversationId, Seq)>, Box<Refusal>>,
    ) {
        let heads: HashMap<ConversationId, Seq> = match heads {
            Ok(heads) => heads.into_iter().collect(),
            Err(_) if is_planted(Fault::KeepTheSlot) => return,
            Err(refusal) => return self.refuse(subscribing.asked, &refusal),
        };
        // More memberships changed than this shard can remember: only a newer read knows which may be subscribed.
        if self.directory.recent.forgot_since(subscribing.read_at_ms) {
            return self.read_heads(Subscribing { read_at_ms: self.now_ms, ..subscribing });
        }
        let Subscribing { asked, user, wanted, impossible, is_resume, .. } = subscribing;
        let Some(conn) = asked.origin.connection() else { return self.finish(asked) };
        if !self.has_room_for_subscriptions(conn, &heads) {
            return self.refuse(asked, &too_many_subscriptions());
        }
        let pages = pages_to_replay(&wanted, &heads);
        if pages > 0
            && let Err(refusal) = self.spend(&asked, user, Budget::Replays, pages)
        {
            return self.reply(asked, Answer::Refused(Box::new(refusal)));
        }
        if is_resume {
            let known: Map<_, _> = heads.iter().map(|(c, seq)| (c.to_string(), json!({ "last_seq": seq }))).collect();
            let refused = wanted.iter().filter(|(c, _)| !heads.contains_key(c)).map(|(c, _)| c.to_string());
            let refused: Vec<_> = refused.chain(impossible).collect();
            self.acknowledge(asked, &json!({ "conversations": known, "not_member": refused }));
        } else {
            match wanted.first().and_then(|(c, _)| heads.get(c)) {
                Some(last_seq) => self.acknowledge(asked, &json!({ "last_seq": last_seq })),
                None => return self.refuse(asked, &not_a_member()),
            }
        }
        let Some(session) = self.connections.session(conn) else { return };
        let (format, deflate_bits) = (session.format, session.deflate_bits);
        for (conversation, after) in wanted {
            let Some(last_seq) = heads.get(&conversation).copied() else { continue };
            let mut cursor = after.unwrap_or(last_seq);
            let mut announce = after.is_some();
            // Too far behind, or ahead of a log that was restored from a backup: the client starts over.
            if cursor > last_seq || last_seq.0 - cursor.0 > REPLAY_EVENTS_MAX {
                self.send_event(conn, "reset", None, &json!({ "conversation_id": conversation, "last_seq": last_seq }));
                cursor = last_seq;
                announce = false;
            }
            let mode = Mode::CatchingUp;
            let subscriber = Subscriber {
                conn,
                user,
                cursor,
                member_at: last_seq,
                mode,
                announce,
                must_read: false,
                format,
                deflate_bits,
            };
            self.subscribe(subscriber, conversation);
        }
        self.apply_recent_changes(user, &heads);
    }

    fn has_room_for_subscriptions(&self, conn: ConnId, heads: &HashMap<ConversationId, Seq>) -> bool {
        let Some(session) = self.connections.session(conn) else { return true };
        if session.subscriptions.len() + heads.len() <= SUBSCRIPTIONS_PER_CONNECTION_MAX {
            return true;
        }
        let has: HashSet<ConversationId> = session.subscriptions.iter().copied().collect();
        let new = heads.keys().filter(|conversation| !has.contains(conversation)).count();
        has.len() + new <= SUBSCRIPTIONS_PER_CONNECTION_MAX
    }

    /// Puts a conversation on a connection's list of replays.
    pub(super) fn want_replay(&mut self, conn: ConnId, conversation: ConversationId) {
        let Some(session) = self.connections.session_mut(conn) else { return };
        let replays = &mut session.catch_up_mut().replays;
        if !replays.contains(&conversation) {
            replays.push_back(conversation);
        }
        self.pump_replays(conn);
    }

    /// Reads the next page for a connection if it may have one now.
    pub(super) fn pump_replays(&mut self, conn: ConnId) {
        let half_full = self.live.limits.max_outbound_queue_bytes / 2;
        let queued = self.sockets.queued_bytes(conn);
        let Some(session) = self.connections.session_mut(conn) else { return };
        if session.replay_in_flight || queued > half_full {
            return; // continues when the page arrives, or the queue has drained
        }
        let user = session.user;
        while let Some(conversation) = self.connections.session_mut(conn).and_then(Session::next_replay) {
            let subscriber = self.rooms.subscriber(conn, conversation);
            let Some(subscriber) = subscriber.filter(|subscriber| subscriber.mode == Mode::CatchingUp) else {
                continue;
            };
            let (after, member_at) = (subscriber.cursor, subscriber.member_at);
            let query = Query::Log { conversation, after, limit: REPLAY_PAGE_EVENTS };
            let sent = self.read(user, query, Pending::Replay(conn, conversation, member_at)).is_ok();
            let Some(session) = self.connections.session_mut(conn) else { return };
            if sent {
                session.replay_in_flight = true;
            } else {
                session.catch_up_mut().replays.push_front(conversation);
                if !session.replay_waits {
                    session.replay_waits = true;
                    self.requests.replays_waiting.push_back((self.now_ms, conn));
                }
            }
            return;
        }
    }

    /// Connections that wait for a free read slot.
    pub(super) fn serve_waiting_replays(&mut self) {
        for _ in 0..self.requests.replays_waiting.len() {
            if !self.requests.may_read() {
                return;
            }
            let Some((_, conn)) = self.requests.replays_waiting.pop_front() else { return };
            if let Some(session) = self.connections.session_mut(conn) {
                session.replay_waits = false;
                self.pump_replays(conn);
            }
        }
    }

    /// A page of the log was read.
    pub(super) fn log_answered(
        &mut self,
        conn: ConnId,
        conversation: ConversationId,
        member_at: Seq,
        page: Result<Box<LogPage>, Box<Refusal>>,
    ) {
        let Some(session) = self.connections.session_mut(conn) else { return };
        session.replay_in_flight = false;
        match page {
            Ok(page) => self.send_page(conn, conversation, *page),
            Err(refusal) if matches!(refusal.code, ErrorCode::NotMember | ErrorCode::NotFound) => {
                self.replay_refused(conn, conversation, member_at);
            }
            Err(_) => {
                // The store is unreachable for a moment: the subscriber keeps its cursor and retries.
                session.catch_up_mut().replays.push_back(conversation);
                return self.requests.replays_failed.push((self.now_ms, conn));
            }
        }
        self.pump_replays(conn);
    }

    /// The user was no member when the log was read. If they have joined again since, the read is made again.
    /// Otherwise the subscription ends, and the client is notified.
    fn replay_refused(&mut self, conn: ConnId, conversation: ConversationId, member_at: Seq) {
        let Some(now_at) = self.rooms.subscriber(conn, conversation).map(|subscriber| subscriber.member_at) else {
            return;
        };
        if now_at != member_at {
            return self.want_replay(conn, conversation);
        }
        self.unsubscribe(conn, conversation);
        self.report_ended_subscription(conn, conversation);
    }

    fn send_page(&mut self, conn: ConnId, conversation: ConversationId, page: LogPage) {
        if let Some(last_seq) = page.restarts_at {
            return self.restart(conn, conversation, last_seq);
        }
        let queue_max = self.live.limits.max_outbound_queue_bytes;
        let mut to_end = page.complete;
        for entry in page.entries {
            let Some(subscriber) = self.rooms.subscriber(conn, conversation) else { return };
            // The client may have subscribed again, with another cursor, since the page was requested.
            if subscriber.mode != Mode::CatchingUp || entry.seq() != subscriber.cursor.next() {
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
                    self.send_event(conn, "message_created", None, &*message);
                    if let Some(thread) = &message.parent_thread {
                        self.send_event(conn, "thread_updated", None, &thread_data(conversation, thread));
                    }
                }
                LogEntry::Event(event) => {
                    let ShownEvent { kind, data, thread, .. } = shown_event(conversation, event);
                    self.send_event(conn, &kind, None, &data);
                    if let Some(thread) = thread {
                        self.send_event(conn, "thread_updated", None, &thread_data(conversation, &thread));
                    }
                }
            }
            self.counters.events_delivered.add(1);
            if let Some(subscriber) = self.rooms.subscriber(conn, conversation) {
                subscriber.advance(seq);
            }
        }
        if to_end {
            self.progress(conn, conversation, true);
        } else {
            self.want_replay(conn, conversation);
        }
    }

    /// Retention has removed what the client still lacks: it reads the history again, and events go on at the end.
    fn restart(&mut self, conn: ConnId, conversation: ConversationId, last_seq: Seq) {
        let subscriber = self.rooms.subscriber(conn, conversation);
        let Some(subscriber) = subscriber.filter(|subscriber| subscriber.mode == Mode::CatchingUp) else { return };
        subscriber.cursor = subscriber.cursor.max(last_seq);
        subscriber.announce = false;
        self.send_event(conn, "reset", None, &json!({ "conversation_id": conversation, "last_seq": last_seq }));
        self.want_replay(conn, conversation);
    }

    /// Everything queued for a connection has left.
    pub(super) fn drained(&mut self, conn: ConnId) {
        let Some(session) = self.connections.session_mut(conn) else { return };
        if !session.is_behind() {
            return; // as after nearly every send
        }
        for conversation in session.caught_up_with_queue() {
            let subscriber = self.rooms.subscriber(conn, conversation);
            let Some(subscriber) = subscriber.filter(|subscriber| subscriber.mode == Mode::CatchingUp) else {
                continue;
            };
            subscriber.announce = true;
            let cursor = subscriber.cursor;
            self.send_event(conn, "lagging", None, &json!({ "conversation_id": conversation, "seq": cursor }));
            self.want_replay(conn, conversation);
        }
        self.pump_replays(conn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_pages_that_a_resume_reads() {
        let id = |n: i64| ConversationId::from_number(n).unwrap();
        let heads = HashMap::from([(id(6), Seq(401)), (id(10), Seq(5)), (id(14), Seq(REPLAY_EVENTS_MAX + 1))]);
        let pages = |wanted: &[(i64, Option<i64>)]| {
            let wanted: Vec<_> = wanted.iter().map(|(n, after)| (id(*n), after.map(Seq))).collect();
            pages_to_replay(&wanted, &heads)
        };
        assert_eq!(pages(&[(6, None), (10, Some(5)), (10, Some(6)), (18, Some(0))]), 0, "nothing is replayed");
        assert_eq!((pages(&[(6, Some(0))]), pages(&[(6, Some(1))]), pages(&[(6, Some(400))])), (3, 2, 1));
        assert_eq!(pages(&[(14, Some(0))]), 0, "a client that is too far behind receives `reset`");
        assert_eq!(pages(&[(14, Some(1)), (10, Some(4)), (6, Some(0))]), 50 + 1 + 3);
    }
}
