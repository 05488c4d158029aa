//! An invented chat as rows of the server's tables: who is in which room, and what happened there in which order. Pure:
//! the same seed gives the same history.
//!
//! Invariants, which the server relies on and [`fill`](super::fill) checks at the end:
//! - a conversation's numbers have no gap: a message takes one, and so does each reaction and each pin;
//! - identifiers of messages rise with their times, over all conversations;
//! - only members act in a conversation.

use super::text::Writer;
use crate::scenario::{RoomKind, RoomPlan};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

/// Reads everything, and has read almost everything.
pub const READER: u32 = 0;
/// Is in the same rooms and has never read anything.
pub const AWAY: u32 = 1;
/// Is in one small room and in none of the large ones.
pub const STRANGER: u32 = 2;
/// The least number of users: those above, and members of small groups.
pub const USERS_MIN: u32 = 12;

/// Rooms: how many, of how many users (0: all but the stranger), their part of all messages in 1,000.
const CLASSES: [(&str, RoomKind, u32, u32, u32); 4] = [
    ("large", RoomKind::PublicRoom, 1, 0, 700),
    ("middle", RoomKind::PublicRoom, 3, 10, 180),
    ("small", RoomKind::Group, 40, 5, 110),
    ("pair", RoomKind::Direct, 8, 2, 10),
];
/// The index of the large room.
pub const LARGE: usize = 0;
/// The index of the small room that the stranger is in.
pub const SMALL: usize = 4;

/// Of 1,000 messages: replies in a thread.
const REPLIES_PER_MILLE: u32 = 100;
/// Of 1,000 replies in the large room: those in its one endless thread.
const ENDLESS_PER_MILLE: u32 = 150;
/// Of 1,000 messages: those that begin a thread.
const ROOTS_PER_MILLE: u32 = 20;
/// Of 1,000 messages: those with a mention.
const MENTIONS_PER_MILLE: u32 = 30;
/// Of 1,000 messages: those with reactions.
const REACTIONS_PER_MILLE: u32 = 80;
/// Of 1,000 messages: those that are pinned, until the room has [`PINS_MAX`].
const PINS_PER_MILLE: u32 = 2;
/// What the server allows.
const PINS_MAX: u32 = 50;
/// Threads of a room that are still replied to.
const OPEN_THREADS: usize = 32;
const EMOJI: [&str; 6] = ["👍", "🎉", "❤️", "😄", "🚀", "👀"];

/// The rooms and their members. The first member owns the room and is none of the three above, except in pairs.
pub fn rooms(users: u32) -> Vec<RoomPlan> {
    let others = users - 3;
    let other = |n: u32| 3 + n % others;
    let mut rooms = Vec::new();
    for (class, (name, kind, count, size, _)) in CLASSES.into_iter().enumerate() {
        for n in 0..count {
            let members: Vec<u32> = match (kind, size) {
                (RoomKind::Direct, _) => vec![READER, other(n)],
                (_, 0) => (3..users).chain([READER, AWAY]).collect(),
                (_, size) => {
                    let last = if rooms.len() == SMALL { STRANGER } else { other(n * 3 + size - 3) };
                    let mut members: Vec<u32> = (0..size - 3).map(|k| other(n * 3 + k)).collect();
                    members.extend([READER, AWAY, last]);
                    members
                }
            };
            rooms.push(RoomPlan { class, name: format!("{name}-{n}-of-{users}"), kind, members });
        }
    }
    rooms
}

/// A conversation as the server knows it.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its number.
    pub id: i64,
    /// Its members' numbers and names; the first owns it.
    pub members: Vec<(i64, String)>,
    /// The newest number in its log.
    pub last_seq: i64,
}

/// Rows for some of the tables, column by column.
#[derive(Debug, Default)]
pub struct Batch {
    /// `messages`
    pub messages: Messages,
    /// `conversation_events`
    pub events: Events,
    /// `message_reactions`
    pub reactions: Reactions,
    /// `message_pins`
    pub pins: Pins,
    /// Conversations and the newest number of each.
    pub heads: (Vec<i64>, Vec<i64>),
}

/// Columns of `messages`.
#[derive(Debug, Default)]
pub struct Messages {
    /// Conversations.
    pub conversation: Vec<i64>,
    /// Numbers in the logs.
    pub seq: Vec<i64>,
    /// Identifiers.
    pub id: Vec<i64>,
    /// Senders.
    pub sender: Vec<i64>,
    /// What they reply to.
    pub parent: Vec<Option<i64>>,
    /// Microseconds of Unix time.
    pub at_us: Vec<i64>,
    /// Texts.
    pub content: Vec<String>,
}

/// Columns of `conversation_events`.
#[derive(Debug, Default)]
pub struct Events {
    /// Conversations.
    pub conversation: Vec<i64>,
    /// Numbers in the logs.
    pub seq: Vec<i64>,
    /// What happened.
    pub kind: Vec<&'static str>,
    /// The users who acted.
    pub actor: Vec<i64>,
    /// What remains to be produced.
    pub payload: Vec<Value>,
    /// Keys of the mutations.
    pub mutation: Vec<i64>,
    /// Microseconds of Unix time.
    pub at_us: Vec<i64>,
}

/// Columns of `message_reactions`.
#[derive(Debug, Default)]
pub struct Reactions {
    /// Messages.
    pub message: Vec<i64>,
    /// With what.
    pub emoji: Vec<&'static str>,
    /// The users.
    pub user: Vec<i64>,
    /// Conversations.
    pub conversation: Vec<i64>,
    /// Microseconds of Unix time.
    pub at_us: Vec<i64>,
}

/// Columns of `message_pins`.
#[derive(Debug, Default)]
pub struct Pins {
    /// Conversations.
    pub conversation: Vec<i64>,
    /// Messages.
    pub message: Vec<i64>,
    /// Who pinned them.
    pub user: Vec<i64>,
    /// Microseconds of Unix time.
    pub at_us: Vec<i64>,
    /// Numbers in the logs.
    pub seq: Vec<i64>,
}

#[derive(Debug, Default)]
struct RoomState {
    threads: Vec<i64>,
    endless: Option<i64>,
    pins: u32,
}

/// Makes the history, batch by batch.
pub struct Town {
    places: Vec<Place>,
    rooms: Vec<RoomState>,
    /// Up to each room, its part of all messages.
    parts: Vec<f64>,
    random: SmallRng,
    writer: Writer,
    next_id: i64,
    left: u64,
    now_us: i64,
    step_us: i64,
}

impl Town {
    /// A history of `messages` messages that ends at `end_us`; identifiers of messages begin at `first_id`. The places
    /// are those of [`rooms`], in order.
    pub fn new(places: Vec<Place>, messages: u64, first_id: i64, end_us: i64, seed: u64) -> Self {
        let per_room = |class: usize| f64::from(CLASSES[class].4) / 1000.0 / f64::from(CLASSES[class].2);
        let classes = (0..CLASSES.len()).flat_map(|class| (0..CLASSES[class].2).map(move |_| class));
        let mut sum = 0.0;
        let parts = classes
            .map(|class| {
                sum += per_room(class);
                sum
            })
            .collect();
        // Two years, for any number of messages.
        let step_us = (2 * 365 * 86_400 * 1_000_000) / (messages.max(1) as i64);
        Self {
            rooms: places.iter().map(|_| RoomState::default()).collect(),
            places,
            parts,
            random: SmallRng::seed_from_u64(seed),
            writer: Writer::new(seed ^ 0x7e37),
            next_id: first_id,
            left: messages,
            now_us: end_us - step_us * messages as i64,
            step_us,
        }
    }

    fn one_in(&mut self, per_mille: u32) -> bool {
        self.random.random_range(0..1000) < per_mille
    }

    fn member(&mut self, room: usize) -> usize {
        self.random.random_range(0..self.places[room].members.len())
    }

    fn next_seq(&mut self, room: usize) -> i64 {
        self.places[room].last_seq += 1;
        self.places[room].last_seq
    }

    /// The next part of the history, of about this many messages; `None` at the end.
    pub fn next_batch(&mut self, messages: u64) -> Option<Batch> {
        if self.left == 0 {
            return None;
        }
        let mut batch = Batch::default();
        let mut touched = vec![false; self.places.len()];
        for _ in 0..messages.min(self.left) {
            let part: f64 = self.random.random();
            let room = self.parts.partition_point(|upto| *upto < part).min(self.places.len() - 1);
            touched[room] = true;
            self.message(room, &mut batch);
            self.left -= 1;
            self.now_us += self.step_us;
        }
        for (room, _) in touched.iter().enumerate().filter(|(_, touched)| **touched) {
            batch.heads.0.push(self.places[room].id);
            batch.heads.1.push(self.places[room].last_seq);
        }
        Some(batch)
    }

    fn message(&mut self, room: usize, batch: &mut Batch) {
        let id = self.next_id;
        self.next_id += 1;
        let sender = self.member(room);
        let mut content = self.writer.message();
        if self.one_in(MENTIONS_PER_MILLE) {
            let named = self.member(room);
            content = format!("@{} {content}", self.places[room].members[named].1);
        }
        let parent = if self.one_in(REPLIES_PER_MILLE) { self.thread(room) } else { None };
        if parent.is_none() && self.one_in(ROOTS_PER_MILLE) {
            let threads = &mut self.rooms[room].threads;
            if threads.len() == OPEN_THREADS {
                threads.remove(0);
            }
            threads.push(id);
            self.rooms[room].endless.get_or_insert(id);
        }
        let columns = &mut batch.messages;
        columns.conversation.push(self.places[room].id);
        columns.id.push(id);
        columns.sender.push(self.places[room].members[sender].0);
        columns.parent.push(parent);
        columns.at_us.push(self.now_us);
        columns.content.push(content);
        let seq = self.next_seq(room);
        batch.messages.seq.push(seq);
        if self.one_in(REACTIONS_PER_MILLE) {
            self.react(room, id, batch);
        }
        if self.rooms[room].pins < PINS_MAX && self.one_in(PINS_PER_MILLE) {
            self.pin(room, id, batch);
        }
    }

    /// The thread of a reply: more often a new one.
    fn thread(&mut self, room: usize) -> Option<i64> {
        if room == LARGE && self.one_in(ENDLESS_PER_MILLE) {
            return self.rooms[room].endless;
        }
        let open = self.rooms[room].threads.len();
        if open == 0 {
            return None;
        }
        let back = self.random.random_range(0..open).min(self.random.random_range(0..open));
        Some(self.rooms[room].threads[open - 1 - back])
    }

    fn react(&mut self, room: usize, message: i64, batch: &mut Batch) {
        let emoji = EMOJI[self.random.random_range(0..EMOJI.len())];
        let members = self.places[room].members.len();
        let first = self.member(room);
        for n in 0..self.random.random_range(1..=members.min(5)) {
            let (user, name) = self.places[room].members[(first + n) % members].clone();
            let columns = &mut batch.reactions;
            columns.message.push(message);
            columns.emoji.push(emoji);
            columns.user.push(user);
            columns.conversation.push(self.places[room].id);
            columns.at_us.push(self.now_us);
            let payload = json!({"message_id": message, "emoji": emoji, "count": n + 1, "user": person(user, &name)});
            self.event(room, "reaction_added", user, payload, batch);
        }
    }

    fn pin(&mut self, room: usize, message: i64, batch: &mut Batch) {
        self.rooms[room].pins += 1;
        let (user, name) = self.places[room].members[0].clone();
        let payload = json!({"message_id": message, "pinned": true, "actor": person(user, &name)});
        let seq = self.event(room, "message_pinned", user, payload, batch);
        let columns = &mut batch.pins;
        columns.conversation.push(self.places[room].id);
        columns.message.push(message);
        columns.user.push(user);
        columns.at_us.push(self.now_us);
        columns.seq.push(seq);
    }

    fn event(&mut self, room: usize, kind: &'static str, actor: i64, payload: Value, batch: &mut Batch) -> i64 {
        let seq = self.next_seq(room);
        let columns = &mut batch.events;
        columns.conversation.push(self.places[room].id);
        columns.seq.push(seq);
        columns.kind.push(kind);
        columns.actor.push(actor);
        columns.payload.push(payload);
        columns.mutation.push(self.random.random_range(1..i64::MAX));
        columns.at_us.push(self.now_us);
        seq
    }
}

fn person(id: i64, name: &str) -> Value {
    json!({"id": id, "username": name, "display_name": name})
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, HashMap, HashSet};

    fn places() -> Vec<Place> {
        let place = |(n, room): (usize, RoomPlan)| Place {
            id: n as i64 * 4 + 2,
            members: room.members.iter().map(|user| (i64::from(*user) + 100, format!("user-{user}"))).collect(),
            last_seq: 1,
        };
        rooms(40).into_iter().enumerate().map(place).collect()
    }

    #[test]
    fn puts_the_right_members_into_rooms() {
        for users in [USERS_MIN, 40] {
            let rooms = rooms(users);
            for room in &rooms {
                let members: HashSet<u32> = room.members.iter().copied().collect();
                assert_eq!(members.len(), room.members.len(), "{room:?}");
                assert!(members.contains(&READER) && members.iter().all(|user| *user < users));
                assert!(room.kind == RoomKind::Direct || room.members[0] > STRANGER, "{room:?}");
            }
            let strangers: Vec<usize> =
                (0..rooms.len()).filter(|room| rooms[*room].members.contains(&STRANGER)).collect();
            assert_eq!(strangers, [SMALL]);
            let pairs: HashSet<&[u32]> =
                rooms.iter().filter(|room| room.kind == RoomKind::Direct).map(|room| &room.members[..]).collect();
            assert_eq!(pairs.len(), 8, "a pair exists once");
        }
    }

    #[test]
    fn logs_have_no_gap_and_identifiers_ascend_with_time() {
        let places = places();
        let members: HashMap<i64, HashSet<i64>> =
            places.iter().map(|place| (place.id, place.members.iter().map(|(id, _)| *id).collect())).collect();
        let mut town = Town::new(places, 20_000, 1_000, 1_700_000_000_000_000, 1);
        let mut logs: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        let (mut count, mut last, mut known) = (0, (0, 0), HashMap::new());
        while let Some(batch) = town.next_batch(700) {
            let messages = &batch.messages;
            for n in 0..messages.id.len() {
                let conversation = messages.conversation[n];
                assert!((messages.id[n], messages.at_us[n]) > last && messages.at_us[n] > last.1);
                last = (messages.id[n], messages.at_us[n]);
                assert!(members[&conversation].contains(&messages.sender[n]));
                if let Some(parent) = messages.parent[n] {
                    assert_eq!(known.get(&parent), Some(&(conversation, false)), "a root in the same conversation");
                }
                known.insert(messages.id[n], (conversation, messages.parent[n].is_some()));
                logs.entry(conversation).or_default().push(messages.seq[n]);
                count += 1;
            }
            for n in 0..batch.events.conversation.len() {
                assert!(members[&batch.events.conversation[n]].contains(&batch.events.actor[n]));
                logs.entry(batch.events.conversation[n]).or_default().push(batch.events.seq[n]);
            }
            for (conversation, head) in batch.heads.0.iter().zip(&batch.heads.1) {
                assert_eq!(logs[conversation].iter().max(), Some(head));
            }
        }
        assert_eq!((count, last.1 < 1_700_000_000_000_000), (20_000, true));
        for (conversation, mut log) in logs {
            log.sort_unstable();
            assert!(log.iter().copied().eq(2..log.len() as i64 + 2), "{conversation}");
        }
    }
}
