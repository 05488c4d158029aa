//! What one message in a channel has. Pure.
//!
//! ```text
//!   1 byte    version
//!   8 bytes   the node that sent it
//!   4 bytes   length of the head       (little endian, as all numbers)
//!   4 bytes   length of the JSON frame
//!   …         head, MessagePack
//!   …         the whole WebSocket frame for readers of JSON
//!   …         the whole WebSocket frame for readers of MessagePack
//! ```
//!
//! The frames are those that the committing node has made. So an event is serialised once in the whole cluster.

use crate::ids::{ConversationId, MAX_SAFE_INTEGER, Seq, SessionId, UserId};
use crate::limits::BUDGETS;
use crate::mesh::event::{EncodedEvent, EncodedNotice, Hiding, MembershipChange};
use crate::mesh::invocation::{GivenAnswer, InvocationId, NodeAnswer, NodeInvocation, NodeOutcome};
use crate::mesh::nodes::{FromNodes, NodePresence, SpentBudgets, ToNodes};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

/// Nodes that read another version ignore the message and find its event by the head.
const VERSION: u8 = 2;
/// What a user can choose to show, beside being online.
const CHOICES: [&str; 3] = ["away", "busy", "invisible"];
const PREFIX_BYTES: usize = 1 + 8 + 4 + 4;

/// What stands beside the frames.
#[derive(Serialize, Deserialize)]
enum EnvelopeHead<'a> {
    Event {
        conversation: i64,
        seq: Option<i64>,
        kind: Cow<'a, str>,
        sender_key: Option<(i64, Cow<'a, str>)>,
        except_user: Option<i64>,
        about: Option<(i64, Vec<i64>)>,
        departure: Option<MembershipEntry>,
    },
    Notice {
        users: Vec<i64>,
    },
    Membership(MembershipEntry),
    Blocked(i64, i64),
    Presence(#[serde(borrow)] Vec<PresenceEntry<'a>>),
    Spent(Vec<(i64, [u32; BUDGETS])>),
    /// Nodes of an earlier version leave it out.
    SpentByBots(Vec<(i64, [u32; BUDGETS])>),
    /// The frames of these have JSON, or the text of the answer. Nodes of an earlier version leave them out.
    Invoke {
        to: u64,
        bot: i64,
        conversation: i64,
    },
    AnswerInvocation {
        number: u64,
        bot: i64,
        id: Cow<'a, str>,
        is_public: bool,
    },
    Answered {
        number: u64,
        bot: i64,
    },
    Heartbeat(usize, u64, u64),
    Revoked(Vec<i64>),
}

/// Who joined or left which conversation: user, conversation, seq, whether they joined.
type MembershipEntry = (i64, i64, i64, bool);

fn membership_entry(change: &MembershipChange) -> MembershipEntry {
    (change.user.0, change.conversation.number(), change.seq.0, change.gained)
}

fn is_seq(seq: i64) -> bool {
    (1..MAX_SAFE_INTEGER).contains(&seq)
}

fn conversation(number: i64) -> Result<ConversationId, EnvelopeError> {
    ConversationId::from_number(number).ok_or(EnvelopeError::Malformed)
}

fn membership(entry: MembershipEntry) -> Result<MembershipChange, EnvelopeError> {
    let (user, number, seq, gained) = entry;
    if !is_seq(seq) {
        return Err(EnvelopeError::Malformed);
    }
    Ok(MembershipChange { user: UserId(user), conversation: conversation(number)?, seq: Seq(seq), gained })
}

/// What one user shows.
#[derive(Serialize, Deserialize)]
struct PresenceEntry<'a> {
    user: i64,
    connections: u32,
    chosen: Option<Cow<'a, str>>,
    text: Option<Cow<'a, str>>,
    chosen_at_ms: i64,
    last_seen_ms: Option<i64>,
}

impl<'a> PresenceEntry<'a> {
    fn of(shown: &'a NodePresence) -> Self {
        Self {
            user: shown.user.0,
            connections: shown.connections,
            chosen: shown.chosen.map(Cow::Borrowed),
            text: shown.text.as_deref().map(Cow::Borrowed),
            chosen_at_ms: shown.chosen_at_ms,
            last_seen_ms: shown.last_seen_ms,
        }
    }

    fn read(self) -> NodePresence {
        NodePresence {
            user: UserId(self.user),
            connections: self.connections,
            chosen: CHOICES.into_iter().find(|choice| Some(*choice) == self.chosen.as_deref()),
            text: self.text.map(|text| Box::from(&*text)),
            chosen_at_ms: self.chosen_at_ms,
            last_seen_ms: self.last_seen_ms,
        }
    }
}

/// A message that was read.
pub(super) enum Received {
    /// For shards.
    Frame(FromNodes),
    /// A heartbeat of this node: its partition, and its number.
    Heartbeat(usize, u64),
    /// A heartbeat of that other node: the node, and the number of its connection to Redis.
    HeartbeatOf(u64, u64),
    /// Sessions that another node has read to be revoked.
    Revoked(Arc<[SessionId]>),
    /// This node sent it itself.
    Own,
}

/// Why a message could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EnvelopeError {
    /// Another version of the server sent it.
    #[error("a node speaks version {0}, and this one version {VERSION}; update the older one")]
    Version(u8),
    /// No server sent it.
    #[error("it is not a message of a server")]
    Malformed,
}

/// Writes a frame for other nodes; none for a frame that stays in this process.
pub(super) fn write(node: u64, frame: &ToNodes) -> Option<Vec<u8>> {
    let users = |users: &[UserId]| users.iter().map(|user| user.0).collect();
    let (head, frames): (_, [&[u8]; 2]) = match frame {
        ToNodes::Event(event) => {
            let [Some(json), Some(msgpack)] = &event.frames else { return None };
            let about = event.about.as_ref().map(|hiding| (hiding.user.0, users(&hiding.from)));
            let head = EnvelopeHead::Event {
                conversation: event.conversation.number(),
                seq: event.seq.map(|seq| seq.0),
                kind: Cow::Borrowed(&event.kind),
                sender_key: event.sender_key.as_ref().map(|(user, key)| (user.0, Cow::Borrowed(&**key))),
                except_user: event.except_user.map(|user| user.0),
                about,
                departure: event.departure.as_ref().map(membership_entry),
            };
            (head, [json, msgpack])
        }
        ToNodes::Notice(notice) => {
            let [json, msgpack] = &notice.frames;
            (EnvelopeHead::Notice { users: users(&notice.users) }, [json, msgpack])
        }
        ToNodes::Membership(change) => (EnvelopeHead::Membership(membership_entry(change)), [&[], &[]]),
        ToNodes::Blocked(one, other) => (EnvelopeHead::Blocked(one.0, other.0), [&[], &[]]),
        ToNodes::Presence(users) => (EnvelopeHead::Presence(users.iter().map(PresenceEntry::of).collect()), [&[], &[]]),
        ToNodes::Spent(spent) => {
            let are_bots = spent.iter().any(|spent| spent.is_bot);
            let spent = spent.iter().map(|spent| (spent.user.0, spent.spent)).collect();
            (if are_bots { EnvelopeHead::SpentByBots(spent) } else { EnvelopeHead::Spent(spent) }, [&[], &[]])
        }
        ToNodes::Invoke(it) => {
            let (bot, conversation) = (it.bot.0, it.conversation.number());
            let shown = it.shown.to_string();
            return join(node, &EnvelopeHead::Invoke { to: it.to, bot, conversation }, [shown.as_bytes(), &[]]);
        }
        ToNodes::AnswerInvocation(it) => {
            let (id, is_public) = (Cow::Owned(it.given.id.to_string()), it.given.is_public);
            let head = EnvelopeHead::AnswerInvocation { number: it.number, bot: it.bot.0, id, is_public };
            return join(node, &head, [it.given.content.as_bytes(), &[]]);
        }
        ToNodes::Answered(it) => {
            let outcome = it.to_json().to_string();
            let head = EnvelopeHead::Answered { number: it.number, bot: it.bot.0 };
            return join(node, &head, [outcome.as_bytes(), &[]]);
        }
        ToNodes::Follow { .. } => return None,
    };
    join(node, &head, frames)
}

/// Writes a heartbeat through a partition. `life` is the number of the connection.
pub(super) fn heartbeat(node: u64, partition: usize, number: u64, life: u64) -> Option<Vec<u8>> {
    join(node, &EnvelopeHead::Heartbeat(partition, number, life), [&[], &[]])
}

/// Writes that sessions are revoked.
pub(super) fn revoked(node: u64, sessions: &[SessionId]) -> Option<Vec<u8>> {
    join(node, &EnvelopeHead::Revoked(sessions.iter().map(|session| session.0).collect()), [&[], &[]])
}

fn join(node: u64, head: &EnvelopeHead<'_>, [json, msgpack]: [&[u8]; 2]) -> Option<Vec<u8>> {
    let head = rmp_serde::to_vec(head).ok()?;
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + head.len() + json.len() + msgpack.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&node.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(head.len()).ok()?.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(json.len()).ok()?.to_le_bytes());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(json);
    bytes.extend_from_slice(msgpack);
    Some(bytes)
}

/// Reads a message.
///
/// # Errors
/// [`EnvelopeError`]; whatever it says, the message can be left out.
pub(super) fn read(this_node: u64, bytes: &[u8], now: Instant) -> Result<Received, EnvelopeError> {
    let (prefix, rest) = bytes.split_at_checked(PREFIX_BYTES).ok_or(EnvelopeError::Malformed)?;
    if prefix[0] != VERSION {
        return Err(EnvelopeError::Version(prefix[0]));
    }
    let (node, lengths) = prefix[1..].split_at(8);
    let node = <[u8; 8]>::try_from(node).map_or(0, u64::from_le_bytes);
    let is_own = node == this_node;
    let length = |at: usize| {
        <[u8; 4]>::try_from(&lengths[at..at + 4]).map_or(usize::MAX, |bytes| u32::from_le_bytes(bytes) as usize)
    };
    let (head, frames) = rest.split_at_checked(length(0)).ok_or(EnvelopeError::Malformed)?;
    let (json, msgpack) = frames.split_at_checked(length(4)).ok_or(EnvelopeError::Malformed)?;
    if is_own && !json.is_empty() {
        return Ok(Received::Own); // its own events come back, and there is nothing to read in them
    }
    let head: EnvelopeHead<'_> = rmp_serde::from_slice(head).map_err(|_| EnvelopeError::Malformed)?;
    if is_own {
        return Ok(if let EnvelopeHead::Heartbeat(partition, number, _) = head {
            Received::Heartbeat(partition, number)
        } else {
            Received::Own
        });
    }
    let users = |users: Vec<i64>| users.into_iter().map(UserId).collect();
    Ok(Received::Frame(match head {
        EnvelopeHead::Heartbeat(_, _, life) => return Ok(Received::HeartbeatOf(node, life)),
        EnvelopeHead::Revoked(sessions) => {
            return Ok(Received::Revoked(sessions.into_iter().map(SessionId).collect()));
        }
        _ if (json.is_empty() || msgpack.is_empty())
            && matches!(head, EnvelopeHead::Event { .. } | EnvelopeHead::Notice { .. }) =>
        {
            return Err(EnvelopeError::Malformed);
        }
        EnvelopeHead::Event { seq: Some(seq), .. } if !is_seq(seq) => {
            return Err(EnvelopeError::Malformed);
        }
        EnvelopeHead::Event { conversation: number, seq, kind, sender_key, except_user, about, departure } => {
            let about = about.map(|(user, from)| {
                let from: Vec<UserId> = users(from);
                Hiding { user: UserId(user), from: from.into(), asked_ms: 0 }
            });
            FromNodes::Event(Arc::new(EncodedEvent {
                conversation: conversation(number)?,
                seq: seq.map(Seq),
                kind: Cow::Owned(kind.into_owned()),
                frames: [Some(Arc::from(json)), Some(Arc::from(msgpack))],
                sender_key: sender_key.map(|(user, key)| (UserId(user), Box::from(&*key))),
                except_user: except_user.map(UserId),
                about,
                except_connection: None,
                departure: departure.map(membership).transpose()?,
                received_at: now,
                published_at: now,
            }))
        }
        EnvelopeHead::Notice { users: numbers } => {
            let frames = [Arc::from(json), Arc::from(msgpack)];
            FromNodes::Notice(Arc::new(EncodedNotice { users: users(numbers), except: None, frames }))
        }
        EnvelopeHead::Membership(entry) => FromNodes::Membership(membership(entry)?),
        EnvelopeHead::Blocked(one, other) => FromNodes::Blocked(UserId(one), UserId(other)),
        EnvelopeHead::Presence(users) => {
            FromNodes::Presence(node, users.into_iter().map(PresenceEntry::read).collect())
        }
        EnvelopeHead::Spent(spent) => FromNodes::Spent(spent_budgets(spent, false)),
        EnvelopeHead::SpentByBots(spent) => FromNodes::Spent(spent_budgets(spent, true)),
        EnvelopeHead::Invoke { to, .. } if to != this_node => return Ok(Received::Own), // for another node
        EnvelopeHead::Invoke { to, bot, conversation: number } => {
            let shown = serde_json::from_slice(json).map_err(|_| EnvelopeError::Malformed)?;
            let conversation = conversation(number)?;
            FromNodes::Invoke(Box::new(NodeInvocation { to, bot: UserId(bot), conversation, shown }))
        }
        EnvelopeHead::AnswerInvocation { number, bot, id, is_public } => {
            let content = std::str::from_utf8(json).map_err(|_| EnvelopeError::Malformed)?.into();
            let id = InvocationId::parse(&id).ok_or(EnvelopeError::Malformed)?;
            let given = GivenAnswer { id, is_public, content };
            FromNodes::AnswerInvocation(Box::new(NodeAnswer { number, bot: UserId(bot), given }))
        }
        EnvelopeHead::Answered { number, bot } => {
            let written = serde_json::from_slice(json).map_err(|_| EnvelopeError::Malformed)?;
            let outcome = NodeOutcome::outcome_of(written).ok_or(EnvelopeError::Malformed)?;
            FromNodes::Answered(Box::new(NodeOutcome { number, bot: UserId(bot), outcome }))
        }
    }))
}

fn spent_budgets(spent: Vec<(i64, [u32; BUDGETS])>, is_bot: bool) -> Vec<SpentBudgets> {
    spent.into_iter().map(|(user, spent)| SpentBudgets { user: UserId(user), spent, is_bot }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event() -> EncodedEvent {
        EncodedEvent {
            conversation: ConversationId::from_number(6).unwrap(),
            seq: Some(Seq(9)),
            kind: Cow::Borrowed("message_created"),
            frames: [Some(Arc::from(&b"json"[..])), Some(Arc::from(&b"msgpack!"[..]))],
            sender_key: Some((UserId(4), Box::from("key"))),
            except_user: Some(UserId(5)),
            about: Some(Hiding { user: UserId(7), from: Arc::from([UserId(8)]), asked_ms: 77 }),
            except_connection: None,
            departure: Some(MembershipChange {
                user: UserId(3),
                conversation: ConversationId::from_number(6).unwrap(),
                seq: Seq(9),
                gained: false,
            }),
            received_at: Instant::now(),
            published_at: Instant::now(),
        }
    }

    fn frame(bytes: &[u8]) -> FromNodes {
        match read(2, bytes, Instant::now()) {
            Ok(Received::Frame(frame)) => frame,
            _ => panic!("a frame of node 1 was expected"),
        }
    }

    #[test]
    fn an_event_arrives_as_it_was_published() {
        let written = write(1, &ToNodes::Event(Arc::new(event()))).unwrap();
        let FromNodes::Event(read) = frame(&written) else { panic!("an event was expected") };
        let sent = event();
        assert_eq!((read.conversation, read.seq, &read.kind), (sent.conversation, sent.seq, &sent.kind));
        assert_eq!((&read.frames, &read.sender_key), (&sent.frames, &sent.sender_key));
        assert_eq!((read.except_user, &read.departure), (sent.except_user, &sent.departure));
        let (read, sent) = (read.about.as_ref().unwrap(), sent.about.unwrap());
        assert_eq!((read.user, &read.from), (sent.user, &sent.from));
    }

    #[test]
    fn the_other_kinds_arrive_and_own_messages_are_known() {
        let conversation = ConversationId::from_number(6).unwrap();
        let change = MembershipChange { user: UserId(3), conversation, seq: Seq(2), gained: true };
        let written = write(1, &ToNodes::Membership(change)).unwrap();
        assert!(matches!(frame(&written), FromNodes::Membership(read) if read == change));
        assert!(matches!(read(1, &written, Instant::now()), Ok(Received::Own)));
        let written = write(1, &ToNodes::Blocked(UserId(1), UserId(2))).unwrap();
        assert!(matches!(frame(&written), FromNodes::Blocked(UserId(1), UserId(2))));
        let frames = [Arc::from(&b"j"[..]), Arc::from(&b"m"[..])];
        let notice = EncodedNotice { users: vec![UserId(9)], except: None, frames };
        let written = write(1, &ToNodes::Notice(Arc::new(notice))).unwrap();
        assert!(matches!(frame(&written), FromNodes::Notice(read) if read.users == [UserId(9)]));
        let shown = NodePresence {
            user: UserId(3),
            connections: 2,
            chosen: Some("busy"),
            text: Some(Box::from("in a meeting")),
            chosen_at_ms: 17,
            last_seen_ms: Some(16),
        };
        let written = write(1, &ToNodes::Presence(vec![shown.clone()])).unwrap();
        assert!(matches!(frame(&written), FromNodes::Presence(1, read) if read == [shown]));
        for is_bot in [false, true] {
            let spent = SpentBudgets { user: UserId(3), spent: [7; BUDGETS], is_bot };
            let written = write(1, &ToNodes::Spent(vec![spent.clone()])).unwrap();
            assert!(matches!(frame(&written), FromNodes::Spent(read) if read == [spent]));
        }
        let written = revoked(1, &[SessionId(4), SessionId(9)]).unwrap();
        let was_read = read(2, &written, Instant::now());
        assert!(matches!(was_read, Ok(Received::Revoked(sessions)) if *sessions == [SessionId(4), SessionId(9)]));
        assert!(matches!(read(1, &written, Instant::now()), Ok(Received::Own)));
        let beat = heartbeat(1, 3, 5, 2).unwrap();
        assert!(matches!(read(1, &beat, Instant::now()), Ok(Received::Heartbeat(3, 5))));
        assert!(matches!(read(2, &beat, Instant::now()), Ok(Received::HeartbeatOf(1, 2))));
    }

    #[test]
    fn another_version_is_named_and_rubbish_is_refused() {
        let mut written = write(1, &ToNodes::Event(Arc::new(event()))).unwrap();
        for length in 0..written.len() - 8 {
            assert!(read(2, &written[..length], Instant::now()).is_err(), "{length} bytes");
        }
        let endless = EncodedEvent { seq: Some(Seq(i64::MAX)), ..event() };
        let endless = write(1, &ToNodes::Event(Arc::new(endless))).unwrap();
        assert_eq!(read(2, &endless, Instant::now()).err(), Some(EnvelopeError::Malformed));
        written[0] = 9;
        assert_eq!(read(2, &written, Instant::now()).err(), Some(EnvelopeError::Version(9)));
    }

    #[test]
    fn commands_of_bots_cross_to_the_node_that_they_are_for() {
        let conversation = ConversationId::from_number(6).unwrap();
        let sent = NodeInvocation { to: 2, bot: UserId(7), conversation, shown: serde_json::json!({"text": "hé"}) };
        let written = write(1, &ToNodes::Invoke(Box::new(sent.clone()))).unwrap();
        assert!(matches!(frame(&written), FromNodes::Invoke(read) if *read == sent));
        assert!(matches!(read(3, &written, Instant::now()), Ok(Received::Own)), "it is for node 2");
        let given = GivenAnswer { id: InvocationId { conversation, number: 9 }, is_public: true, content: "ja".into() };
        let sent = NodeAnswer { number: 4, bot: UserId(7), given };
        let written = write(1, &ToNodes::AnswerInvocation(Box::new(sent.clone()))).unwrap();
        assert!(matches!(frame(&written), FromNodes::AnswerInvocation(read) if *read == sent));
        let sent = NodeOutcome { number: 4, bot: UserId(7), outcome: Ok(serde_json::json!({"seq": 3})) };
        let written = write(1, &ToNodes::Answered(Box::new(sent.clone()))).unwrap();
        assert!(matches!(frame(&written), FromNodes::Answered(read) if *read == sent));
    }

    proptest! {
        #[test]
        fn no_message_can_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200), lead in any::<bool>()) {
            let mut bytes = bytes;
            if lead {
                bytes.insert(0, VERSION);
            }
            let _ = read(2, &bytes, Instant::now());
        }
    }
}
