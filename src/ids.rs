//! Identifiers that cross module boundaries.
//!
//! Invariants:
//! - every identifier a client sees is an integer below 2^53, so that a JavaScript `number` holds it exactly;
//! - a [`ConversationId`] carries its prefix (`dm_`, `group_`, `room_`) in its two low bits, so text ⇄ number is
//!   arithmetic and `room_7` can never name a direct conversation;
//! - a [`ConnId`] carries its home shard and a generation. A frame for a closed connection finds a different generation
//!   in the slot and is dropped, instead of reaching another user.

use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The largest integer identifier: 2^53 − 1 (`Number.MAX_SAFE_INTEGER`).
pub const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

/// A user's number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub i64);

/// A message's number, unique in the whole server. It does not define an order; [`Seq`] does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(pub i64);

/// A file's number, unique in the whole server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FileId(pub i64);

/// The number of a mutation in its conversation's log: 1, 2, 3 … without gaps. 0 is before the first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub i64);

impl Seq {
    /// The next number.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A session: one device's chain of refresh tokens. Access tokens carry it as `sid`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
#[serde(transparent)]
pub struct SessionId(pub i64);

/// A command: the index of its name in `wire::command::Command::NAMES`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CommandId(pub u16);

/// The prefix of a conversation's text form.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ConversationPrefix {
    /// `dm_`: a direct conversation. Each pair of users has at most one.
    Direct,
    /// `group_`: a group, which is not listed publicly.
    Group,
    /// `room_`: a public or private room.
    Room,
}

/// A conversation's number. Its two low bits select the prefix of its text form.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConversationId(i64);

impl ConversationId {
    /// From the number in PostgreSQL. `None` unless 0 < `number` < 2^53 and the low bits select a prefix.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        (number > 0 && number <= MAX_SAFE_INTEGER && number & 3 != 3).then_some(Self(number))
    }

    /// The number in PostgreSQL.
    #[must_use]
    pub fn number(self) -> i64 {
        self.0
    }

    /// The prefix of the text form.
    #[must_use]
    pub fn prefix(self) -> ConversationPrefix {
        match self.0 & 3 {
            0 => ConversationPrefix::Direct,
            1 => ConversationPrefix::Group,
            _ => ConversationPrefix::Room,
        }
    }

    /// Parses `dm_N`, `group_N` or `room_N`. `None` if the form is wrong or N does not belong to the prefix.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (prefix, digits) = text.split_once('_')?;
        let wanted = match prefix {
            "dm" => ConversationPrefix::Direct,
            "group" => ConversationPrefix::Group,
            "room" => ConversationPrefix::Room,
            _ => return None,
        };
        if digits.is_empty()
            || digits.len() > 16
            || !digits.bytes().all(|b| b.is_ascii_digit())
            || digits.starts_with('0')
        {
            return None;
        }
        let id = Self::from_number(digits.parse().ok()?)?;
        (id.prefix() == wanted).then_some(id)
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.prefix() {
            ConversationPrefix::Direct => "dm",
            ConversationPrefix::Group => "group",
            ConversationPrefix::Room => "room",
        };
        write!(f, "{prefix}_{}", self.0)
    }
}

impl fmt::Debug for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ConversationId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// From the text form, and from the number that PostgreSQL stores.
impl<'de> Deserialize<'de> for ConversationId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl Visitor<'_> for Forms {
            type Value = ConversationId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a conversation id")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ConversationId, E> {
                ConversationId::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<ConversationId, E> {
                let id = i64::try_from(number).ok().and_then(ConversationId::from_number);
                id.ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

/// Index of a shard, 0 … N−1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ShardId(pub u8);

impl ShardId {
    /// The index into per-shard arrays.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A connection: home shard (8 bits), generation (24 bits), slot (32 bits).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(u64);

impl ConnId {
    /// The smallest id, for the start of a search.
    pub const FIRST: Self = Self(0);
    const GENERATION_MASK: u32 = 0x00ff_ffff;

    /// Composes an id. The generation wraps at 24 bits.
    #[must_use]
    pub fn new(shard: ShardId, generation: u32, slot: u32) -> Self {
        Self(u64::from(shard.0) << 56 | u64::from(generation & Self::GENERATION_MASK) << 32 | u64::from(slot))
    }

    /// The home shard of the connection. Routing is this shift.
    #[must_use]
    pub fn shard(self) -> ShardId {
        ShardId((self.0 >> 56) as u8)
    }

    /// The generation of the slot for which this id is valid.
    #[must_use]
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32 & Self::GENERATION_MASK
    }

    /// The index into the home shard's slab.
    #[must_use]
    pub fn slot(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conn {}/{}.{}", self.shard().0, self.slot(), self.generation())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_its_own_text_form_and_refuses_another_prefix() {
        for (number, text) in
            [(4, "dm_4"), (5, "group_5"), (6, "room_6"), (MAX_SAFE_INTEGER - 1, "room_9007199254740990")]
        {
            let id = ConversationId::from_number(number).unwrap();
            assert_eq!(id.to_string(), text);
            assert_eq!(ConversationId::parse(text), Some(id));
        }
        for bad in
            ["room_4", "dm_5", "room_7", "room_", "room_06", "room_-6", "room_99999999999999999999", "x_6", "room6", ""]
        {
            assert_eq!(ConversationId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn connection_id_keeps_its_parts() {
        let id = ConnId::new(ShardId(200), 0x01ff_ffff, u32::MAX);
        assert_eq!((id.shard(), id.generation(), id.slot()), (ShardId(200), 0x00ff_ffff, u32::MAX));
    }
}
