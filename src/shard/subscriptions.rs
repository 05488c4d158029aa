//! Who is subscribed to what on this shard, and what the conversations' owners know of it.

use super::Shard;
use crate::chat::subscribers::{Phase, Progress, Subscriber};
use crate::ids::{ConnId, ConversationId, Seq, UserId};
use crate::limits::SUBSCRIPTIONS_PER_CONNECTION_MAX;
use crate::mesh::frame::{MembershipChange, Published, Request};
use serde_json::json;
use std::collections::HashMap;

/// How long a change of membership is remembered: longer than a read may take.
const RECENT_MS: u64 = 2 * crate::limits::READ_DEADLINE_MS;
/// Changes remembered per shard.
const RECENT_CHANGES_MAX: usize = 16_384;

impl Shard {
    /// Adds a subscriber to a conversation; one that is subscribed already moves to the new cursor.
    pub(super) fn subscribe(&mut self, subscriber: Subscriber, conversation: ConversationId) {
        let conn = subscriber.conn;
        let room = self.rooms.get_mut(&conversation);
        let is_new = room.is_none_or(|room| room.subscriber(conn).is_none());
        let Some(session) = self.session(conn) else { return };
        if is_new {
            if session.subscriptions.len() >= SUBSCRIPTIONS_PER_CONNECTION_MAX {
                return;
            }
            session.subscriptions.push(conversation);
        }
        let room = self.rooms.entry(conversation).or_default();
        room.subscribe(subscriber);
        if room.news_for_owner().is_some() {
            self.interest_news.push_back(conversation);
        }
        self.progress(conn, conversation, false);
    }

    pub(super) fn unsubscribe(&mut self, conn: ConnId, conversation: ConversationId) {
        if let Some(session) = self.session(conn) {
            session.subscriptions.retain(|c| *c != conversation);
            self.remove_subscriber(conn, conversation);
        }
    }

    pub(super) fn remove_subscriber(&mut self, conn: ConnId, conversation: ConversationId) {
        if let Some(room) = self.rooms.get_mut(&conversation) {
            room.unsubscribe(conn);
            if room.news_for_owner().is_some() {
                self.interest_news.push_back(conversation);
            }
        }
    }

    /// Tells a conversation's owner what this shard wants; false when its lane is full.
    pub(super) fn tell_interest(&mut self, conversation: ConversationId) -> bool {
        let Some(room) = self.rooms.get_mut(&conversation) else { return true };
        let Some(formats) = room.news_for_owner() else { return true };
        let owner = self.mesh.placement.owner(conversation);
        // Noted before it is sent: when this shard is the owner, the answer comes within the call.
        room.owner_told(formats);
        let interest = Request::Interest { conversation, shard: self.id, formats };
        if self.request(owner, interest).is_err() {
            if let Some(room) = self.rooms.get_mut(&conversation) {
                room.forget_told();
            }
            return false;
        }
        if formats == 0 {
            self.rooms.remove(&conversation);
        }
        true
    }

    /// The owner says that events flow.
    pub(super) fn on_interested(&mut self, conversation: ConversationId, formats: u8, published: Published) {
        let Some(room) = self.rooms.get_mut(&conversation) else { return };
        let upto = match published {
            Published::Upto(seq) => Some(seq),
            Published::Nothing | Published::Unknown => None,
        };
        // Up to here everything is in the backlog or behind the cursors.
        let seen = room.head();
        room.events_flow(formats, upto);
        let mut waiting = Vec::new();
        for subscriber in room.subscribers() {
            if subscriber.phase == Phase::Live && upto.is_some_and(|seq| seq > seen && subscriber.cursor < seq) {
                subscriber.phase = Phase::CatchingUp;
            }
            if subscriber.phase == Phase::CatchingUp {
                subscriber.must_read |= published == Published::Unknown;
                waiting.push(subscriber.conn);
            }
        }
        for conn in waiting {
            self.progress(conn, conversation, false);
        }
    }

    /// Lets a subscriber that is catching up take its next step.
    pub(super) fn progress(&mut self, conn: ConnId, conversation: ConversationId, read_to_end: bool) {
        let Some(room) = self.rooms.get_mut(&conversation) else { return };
        match room.progress(conn, read_to_end) {
            Some(Progress::Live { announce: true }) => {
                let seq = room.subscriber(conn).map_or(Seq(0), |s| s.cursor);
                self.say(conn, "caught_up", None, &json!({ "conversation_id": conversation, "seq": seq }));
            }
            Some(Progress::Read) => self.want_replay(conn, conversation),
            Some(Progress::Live { announce: false } | Progress::Wait) | None => {}
        }
    }

    /// A user came to or left a conversation.
    pub(super) fn on_membership(&mut self, change: MembershipChange) {
        self.recent_changes.push_back((self.now_ms, change));
        let oldest = self.now_ms.saturating_sub(RECENT_MS);
        while self.recent_changes.len() > RECENT_CHANGES_MAX
            || self.recent_changes.front().is_some_and(|(at, _)| *at < oldest)
        {
            self.recent_changes.pop_front();
        }
        self.apply_membership(change);
        if !change.gained {
            self.doubt_presence(change.user);
        }
    }

    /// What changed for a user while its conversations were being read: applied once the answer has been. `read` says how
    /// far the log of each went that the answer found the user to be a member of; what stands in the log up to there is
    /// part of the answer, and applied once more it would undo what came after it.
    pub(super) fn apply_recent_changes(&mut self, user: UserId, read: &HashMap<ConversationId, Seq>) {
        let is_news = |change: &MembershipChange| {
            change.user == user && read.get(&change.conversation).is_none_or(|head| change.seq > *head)
        };
        let changes: Vec<_> = self.recent_changes.iter().map(|(_, change)| *change).filter(is_news).collect();
        for change in changes {
            self.apply_membership(change);
        }
    }

    fn apply_membership(&mut self, change: MembershipChange) {
        let Some(connections) = self.local_users.get(&change.user) else { return };
        for conn in connections.clone() {
            let Some(session) = self.session(conn) else { continue };
            if !change.gained {
                self.serve_before_leaving(conn, change.conversation);
                self.unsubscribe(conn, change.conversation);
            } else if session.subscribe_all && !session.subscriptions.contains(&change.conversation) {
                let subscriber = Subscriber {
                    conn,
                    cursor: Seq(change.seq.0 - 1),
                    phase: Phase::CatchingUp,
                    announce: false,
                    // Its cursor is not from a read: the event that made it a member is in the log.
                    must_read: true,
                    format: session.format.bit(),
                };
                self.subscribe(subscriber, change.conversation);
            }
        }
    }
}
