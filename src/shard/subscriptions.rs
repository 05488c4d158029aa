//! The subscriptions of this shard, and its interest registered with the conversations' owners.

use super::Shard;
use super::refusals::{not_a_member, too_many_subscriptions};
use super::world::World;
use crate::chat::subscribers::{Mode, Progress, Subscriber};
use crate::ids::{ConnId, ConversationId, Seq, UserId};
use crate::limits::SUBSCRIPTIONS_PER_CONNECTION_MAX;
use crate::mesh::event::{MembershipChange, Published};
use crate::mesh::frame::Request;
use crate::mesh::port::Lanes as _;
use crate::planted::{Fault, is_planted};
use serde_json::json;
use std::collections::HashMap;

/// A connection with so few subscriptions keeps no memory for more.
const FEW: usize = 4;
/// Between the two ways on which a shard learns a change of membership in a cluster.
const TOLD_TWICE_MS: u64 = 5_000;

impl<W: World> Shard<W> {
    /// Adds a subscriber to a conversation, or moves an existing one to the new cursor. A connection with too many
    /// subscriptions gets an `error` that names the conversation: its client would otherwise wait for events that never
    /// come.
    pub(super) fn subscribe(&mut self, subscriber: Subscriber, conversation: ConversationId) {
        let conn = subscriber.conn;
        let is_new = self.rooms.subscriber(conn, conversation).is_none();
        let Some(session) = self.connections.session_mut(conn) else { return };
        if is_new {
            if session.subscriptions.len() >= SUBSCRIPTIONS_PER_CONNECTION_MAX {
                let refusal = too_many_subscriptions().with_details(json!({ "conversation_id": conversation }));
                return self.send_event(conn, "error", None, &refusal);
            }
            if session.subscriptions.len() < FEW {
                session.subscriptions.reserve_exact(1);
            }
            session.subscriptions.push(conversation);
        }
        self.rooms.subscribe(subscriber, conversation);
        self.progress(conn, conversation, false);
    }

    pub(super) fn unsubscribe(&mut self, conn: ConnId, conversation: ConversationId) {
        if let Some(session) = self.connections.session_mut(conn) {
            session.subscriptions.retain(|c| *c != conversation);
            self.rooms.unsubscribe(conn, conversation);
        }
    }

    /// Registers this shard's interest with the conversations' owners, as far as the lanes have free slots.
    pub(super) fn report_interests(&mut self) {
        let mut not_sent = Vec::new();
        while let Some((conversation, formats)) = self.rooms.next_interest() {
            let interest = Request::Interest { conversation, shard: self.id, formats };
            if self.request(self.placement.owner(conversation), interest).is_err() {
                not_sent.push(conversation);
            }
        }
        for conversation in not_sent {
            self.rooms.interest_not_sent(conversation); // at the next turn
        }
    }

    /// The owner answers that events flow.
    pub(super) fn on_interested(&mut self, conversation: ConversationId, formats: u8, published: Published) {
        for conn in self.rooms.events_flow(conversation, formats, published) {
            self.progress(conn, conversation, false);
        }
    }

    /// Lets a subscriber that is catching up take its next step.
    pub(super) fn progress(&mut self, conn: ConnId, conversation: ConversationId, read_to_end: bool) {
        match self.rooms.progress(conn, conversation, read_to_end) {
            Some((Progress::Live { announce: true }, seq)) => {
                self.send_event(conn, "caught_up", None, &json!({ "conversation_id": conversation, "seq": seq }));
            }
            Some((Progress::Read, _)) => self.want_replay(conn, conversation),
            Some((Progress::Live { announce: false } | Progress::Wait, _)) | None => {}
        }
    }

    /// A user joined or left a conversation.
    pub(super) fn on_membership(&mut self, change: MembershipChange) {
        // In a cluster it comes through Redis and from the audit trail. The second one must not undo what the client
        // has unsubscribed from since.
        let since_ms = self.now_ms.saturating_sub(TOLD_TWICE_MS);
        if self.lanes.has_nodes() && self.directory.recent.knows_membership(change, since_ms) {
            return;
        }
        self.directory.recent.membership(change, self.now_ms);
        self.apply_membership(change);
        if !change.gained && !is_planted(Fault::WatchAfterADeparture) {
            self.directory.watches.recheck(change.user, self.directory.local.of(change.user));
        }
    }

    /// Applies what changed for a user while their conversations were being read. `read` says how far the log of each
    /// conversation went in the answer. What stands in the log up to there is part of the answer; applied once more, it
    /// would undo what came after it.
    pub(super) fn apply_recent_changes(&mut self, user: UserId, read: &HashMap<ConversationId, Seq>) {
        if is_planted(Fault::ForgetMemberships) {
            return;
        }
        let is_newer = |change: &MembershipChange| read.get(&change.conversation).is_none_or(|seq| change.seq > *seq);
        let changes: Vec<_> = self.directory.recent.memberships_of(user).filter(is_newer).collect();
        for change in changes {
            self.apply_membership(change);
        }
    }

    fn apply_membership(&mut self, change: MembershipChange) {
        for conn in self.directory.local.of(change.user).to_vec() {
            let Some(session) = self.connections.session(conn) else { continue };
            let is_covered = session.grant.as_ref().is_none_or(|grant| grant.covers(change.conversation));
            let subscribe_all = session.subscribe_all && is_covered;
            let (format, deflate_bits) = (session.format, session.deflate_bits);
            if !change.gained {
                self.end_subscription(conn, change);
            } else if let Some(subscriber) = self.rooms.subscriber(conn, change.conversation)
                && !is_planted(Fault::SkipToTheJoin)
            {
                // A run that was submitted twice can join again what a later mutation of it has left: then the older
                // departure comes after this.
                subscriber.member_at = subscriber.member_at.max(change.seq);
            } else if subscribe_all {
                let subscriber = Subscriber {
                    conn,
                    user: change.user,
                    cursor: Seq(change.seq.0 - 1),
                    member_at: change.seq,
                    mode: Mode::CatchingUp,
                    announce: false,
                    // Its cursor is not from a read: the event that made it a member is in the log.
                    must_read: true,
                    format,
                    deflate_bits,
                };
                self.subscribe(subscriber, change.conversation);
            }
        }
    }

    /// A member has left: its subscriber receives the events up to and including the departure. A subscriber that
    /// cannot receive that event, because it is catching up or its queue is full, receives an `error`: its client would
    /// otherwise wait for events that never come.
    fn end_subscription(&mut self, conn: ConnId, change: MembershipChange) {
        let conversation = change.conversation;
        // The change has come later than a read that already knew that the user had joined again.
        let member_at = self.rooms.subscriber(conn, conversation).map(|subscriber| subscriber.member_at);
        if member_at.is_some_and(|member_at| change.seq <= member_at) {
            return;
        }
        self.serve_before_leaving(conn, conversation);
        let Some(cursor) = self.rooms.subscriber(conn, conversation).map(|subscriber| subscriber.cursor) else {
            return;
        };
        if is_planted(Fault::SignalAfterADeparture)
            && let Some(subscriber) = self.rooms.subscriber(conn, conversation)
        {
            // It knows every event, so that it receives what is not in the log.
            return subscriber.advance(Seq(i64::MAX - 1));
        }
        self.unsubscribe(conn, conversation);
        if cursor < change.seq {
            self.report_ended_subscription(conn, conversation);
        }
    }

    /// Notifies a client that its subscription has ended, if no event of the log can.
    pub(super) fn report_ended_subscription(&mut self, conn: ConnId, conversation: ConversationId) {
        let refusal = not_a_member().with_details(json!({ "conversation_id": conversation }));
        self.send_event(conn, "error", None, &refusal);
    }
}
