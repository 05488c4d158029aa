//! Events into queues, and who is subscribed to what.

use super::Shard;
use super::session::Client;
use crate::chat::subscribers::{Phase, Progress, Step, Subscriber};
use crate::ids::{ConnId, ConversationId, Seq, UserId};
use crate::limits::{SLOW_CONSUMER_GRACE_MS, SUBSCRIPTIONS_PER_CONNECTION_MAX};
use crate::mesh::frame::{EncodedEvent, MembershipChange, Published, Request};
use crate::net::Chunk;
use crate::wire::ws::deflate::Deflater;
use crate::wire::ws::encoder;
use crate::wire::{Format, event};
use serde_json::json;

/// How long a change of membership is remembered: longer than a read may take.
const RECENT_MS: u64 = 2 * crate::limits::READ_DEADLINE_MS;
/// Changes remembered per shard.
const RECENT_CHANGES_MAX: usize = 16_384;

/// An event's frames on this shard: what receivers share. Made when the first receiver needs them.
#[derive(Default)]
struct Chunks {
    plain: [Option<Chunk>; 2],
    sender: [Option<Chunk>; 2],
    /// For windows of 2^15 bytes, which is what nearly all clients have.
    deflated: [Option<Chunk>; 2],
}

impl Chunks {
    fn plain(&mut self, event: &EncodedEvent, format: Format) -> Option<Chunk> {
        let slot = &mut self.plain[format.index()];
        if slot.is_none() {
            *slot = event.frames[format.index()].clone().map(Chunk::new);
        }
        slot.clone()
    }

    fn sender(&mut self, event: &EncodedEvent, format: Format, key: &str) -> Option<Chunk> {
        let slot = &mut self.sender[format.index()];
        if slot.is_none() {
            let frame = event.frames[format.index()].as_ref()?;
            *slot = event::with_data_field(frame, format, &event.kind, "client_message_id", key).map(Chunk::new);
        }
        slot.clone()
    }

    fn deflated(&mut self, deflater: &mut Deflater, event: &EncodedEvent, format: Format, bits: u8) -> Option<Chunk> {
        let slot = &mut self.deflated[format.index()];
        if bits == 15 && slot.is_some() {
            return slot.clone();
        }
        let frame = event.frames[format.index()].as_ref()?;
        let compressed = deflater.deflate(encoder::payload_of(frame), bits)?;
        let chunk = Chunk::new(encoder::frame(format.message_kind().opcode(), true, &compressed));
        if bits == 15 {
            *slot = Some(chunk.clone());
        }
        Some(chunk)
    }
}

impl Shard {
    /// An event for this shard's subscribers.
    pub(super) fn on_event(&mut self, event: &EncodedEvent) {
        let Self { rooms, sockets, clients, settings, counters, now_ms, replays_waiting, deflater, wheel, .. } = self;
        let Some(room) = rooms.get_mut(&event.conversation) else { return };
        if let Some(seq) = event.seq {
            room.saw(seq);
        }
        let queue_max = settings.limits.max_outbound_queue_bytes;
        let mut chunks = Chunks::default();
        let (mut delivered, mut bytes) = (0, 0);
        for subscriber in &mut room.subscribers {
            let Some(session) = clients.get_mut(subscriber.conn.slot() as usize).and_then(Client::session_mut) else {
                continue;
            };
            let step = match event.seq {
                Some(seq) => subscriber.on_event(seq),
                // What passes is for those who are up to date; nobody catches up on it.
                None if subscriber.phase == Phase::Live => Step::Deliver,
                None => Step::Skip,
            };
            if step == Step::Skip
                || event.except_user == Some(session.user)
                || event.except_connection == Some(session.conn)
            {
                continue;
            }
            let chunk = match &event.sender_key {
                Some((user, key)) if *user == session.user => chunks.sender(event, session.format, key),
                _ => match session.deflate_window_bits {
                    Some(bits) => chunks
                        .deflated(deflater, event, session.format, bits)
                        .or_else(|| chunks.plain(event, session.format)),
                    None => chunks.plain(event, session.format),
                },
            };
            let queued = sockets.queued_bytes(session.conn);
            match chunk {
                Some(chunk) if step == Step::Deliver && queued + chunk.bytes().len() <= queue_max => {
                    bytes += chunk.bytes().len() as u64;
                    sockets.send(session.conn, chunk);
                    delivered += 1;
                    if let Some(seq) = event.seq {
                        subscriber.advance(seq);
                    }
                }
                _ if event.seq.is_none() => {}
                Some(_) if step == Step::Deliver => {
                    // Its queue is full: from here on it is behind, and reads the log once it has drained.
                    subscriber.phase = Phase::CatchingUp;
                    if session.lagging_since_ms.is_none() {
                        session.lagging_since_ms = Some(*now_ms);
                        let until = *now_ms + SLOW_CONSUMER_GRACE_MS;
                        session.look_at_ms = session.look_at_ms.min(until);
                        wheel.schedule(session.conn, until);
                    }
                    session.behind.push(event.conversation);
                }
                // A gap, or an event that could not be serialised: the log has it.
                _ => {
                    subscriber.phase = Phase::CatchingUp;
                    session.replays.push_back(event.conversation);
                    if !session.replay_waits {
                        session.replay_waits = true;
                        replays_waiting.push_back(session.conn);
                    }
                }
            }
        }
        counters.events_delivered.add(delivered);
        counters.bytes_out.add(bytes);
    }

    /// Adds a subscriber to a conversation; one that is subscribed already moves to the new cursor.
    pub(super) fn subscribe(&mut self, subscriber: Subscriber, conversation: ConversationId) {
        let conn = subscriber.conn;
        let Some(session) = self.session(conn) else { return };
        if !session.subscriptions.contains(&conversation) {
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
        room.events_flow(formats, upto);
        let mut waiting = Vec::new();
        for subscriber in &mut room.subscribers {
            if subscriber.phase == Phase::Live && upto.is_some_and(|seq| subscriber.cursor < seq) {
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
    }

    /// What changed for a user while its conversations were being read: applied once the answer has been.
    pub(super) fn apply_recent_changes(&mut self, user: UserId) {
        let changes: Vec<_> =
            self.recent_changes.iter().map(|(_, change)| *change).filter(|c| c.user == user).collect();
        for change in changes {
            self.apply_membership(change);
        }
    }

    fn apply_membership(&mut self, change: MembershipChange) {
        let Some(connections) = self.local_users.get(&change.user) else { return };
        for conn in connections.clone() {
            let Some(session) = self.session(conn) else { continue };
            if !change.gained {
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
