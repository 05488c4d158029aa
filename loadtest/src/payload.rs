//! The content of a test message: its sender, its planned time, then readable padding.
//!
//! Layout, ASCII: `lt RUN CLIENT-NUMBER PLANNED_NS padding…`, where `PLANNED_NS` counts from the run's epoch. So a
//! receiver in the same process knows the delivery latency from the *planned* time and which send it is, without a
//! shared table. The padding is words and not one repeated letter, so that spam filters and compression treat it like
//! chat. The last character is never a space, which a server may trim.
//!
//! Invariant: length and padding are functions of the token, so a receiver checks every byte. With random padding, a
//! server that cuts or mixes contents would pass.

use crate::check::ClientIndex;
use std::fmt;
use std::fmt::Write;
use std::str::FromStr;

/// Shortest content with space for the header, characters.
pub const PAYLOAD_BYTES_MIN: usize = 64;
/// Longest content, characters. The server's own limit is 4,000 unless configured otherwise.
pub const PAYLOAD_BYTES_MAX: usize = 1_000_000;

const WORDS: &str = "the quick brown fox jumps over a lazy dog while seven bright boats drift past our quiet \
    harbour and somebody on deck hums an old tune about rain in early spring until evening lamps come on along the \
    water ";

/// Tells this run's messages from those of other runs in the same rooms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One send of this run: the client and the number of its message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Token {
    /// The sender.
    pub client: ClientIndex,
    /// Counted from 0 for each client.
    pub number: u32,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.client.0, self.number)
    }
}

impl FromStr for Token {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (client, number) = text.split_once('-').ok_or(())?;
        Ok(Self { client: ClientIndex(client.parse().map_err(drop)?), number: number.parse().map_err(drop)? })
    }
}

/// What a receiver learns from a content.
#[derive(PartialEq, Eq, Debug)]
pub enum Reading {
    /// Not a message of this run.
    Foreign,
    /// One of this run's, intact.
    Ours {
        /// The token of the send.
        token: Token,
        /// Planned send time, nanoseconds since the epoch of the run.
        planned_ns: u64,
    },
    /// It names this run, but differs from what was sent.
    Corrupted,
}

/// The lengths of contents and how often each occurs.
#[derive(Clone, PartialEq, Debug)]
pub struct Sizes {
    /// Length, and the share of contents that are this long or come earlier in the list.
    upto: Vec<(usize, f64)>,
}

impl Sizes {
    /// One length for all, within [`PAYLOAD_BYTES_MIN`] and [`PAYLOAD_BYTES_MAX`].
    pub fn all(bytes: usize) -> Self {
        Self { upto: vec![(bytes, 1.0)] }
    }

    /// Several lengths, each with its weight.
    pub fn weighted(sizes: &[(usize, f64)]) -> Self {
        let total: f64 = sizes.iter().map(|(_, weight)| weight).sum();
        let mut sum = 0.0;
        let share = |(bytes, weight): &(usize, f64)| {
            sum += weight / total;
            (*bytes, sum)
        };
        Self { upto: sizes.iter().map(share).collect() }
    }

    /// The length of one send's content.
    fn of(&self, token: Token) -> usize {
        if let [(bytes, _)] = self.upto.as_slice() {
            return *bytes;
        }
        let mixed = (u64::from(token.client.0) << 32 | u64::from(token.number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let dice = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        let found = self.upto.iter().find(|(_, upto)| dice < *upto).or(self.upto.last());
        found.map_or(PAYLOAD_BYTES_MIN, |(bytes, _)| *bytes)
    }
}

/// Writes and reads contents of one run.
#[derive(Clone, Debug)]
pub struct PayloadFormat {
    /// The run.
    pub run: RunId,
    /// How long contents are.
    pub sizes: Sizes,
}

impl PayloadFormat {
    /// The content of one send.
    pub fn write(&self, token: Token, planned_ns: u64) -> String {
        let bytes = self.sizes.of(token);
        let mut content = String::with_capacity(bytes + 8);
        // Writing into a String cannot fail.
        let _ = write!(content, "lt {} {token} {planned_ns} ", self.run);
        let mut at = (token.number as usize * 7 + token.client.0 as usize * 13) % WORDS.len();
        while content.len() < bytes {
            let take = (bytes - content.len()).min(WORDS.len() - at);
            content.push_str(&WORDS[at..at + take]);
            at = 0;
        }
        content.truncate(bytes);
        if content.ends_with(' ') {
            content.pop();
            content.push('.');
        }
        content
    }

    /// The identifier under which a send may be repeated.
    pub fn client_message_id(&self, token: Token) -> String {
        format!("lt-{}-{token}", self.run)
    }

    /// Reads a content.
    pub fn read(&self, content: &str) -> Reading {
        let mut parts = content.splitn(5, ' ');
        let ours = parts.next() == Some("lt")
            && parts.next().and_then(|run| u64::from_str_radix(run, 16).ok()) == Some(self.run.0);
        if !ours {
            return Reading::Foreign;
        }
        let token = parts.next().and_then(|token| token.parse::<Token>().ok());
        let planned_ns = parts.next().and_then(|planned| planned.parse::<u64>().ok());
        match (token, planned_ns) {
            (Some(token), Some(planned_ns)) if self.write(token, planned_ns) == content => {
                Reading::Ours { token, planned_ns }
            }
            _ => Reading::Corrupted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(bytes: usize) -> PayloadFormat {
        PayloadFormat { run: RunId(0xabc), sizes: Sizes::all(bytes) }
    }

    const TOKEN: Token = Token { client: ClientIndex(7), number: 42 };

    #[test]
    fn reads_back_contents_of_every_length() {
        for bytes in PAYLOAD_BYTES_MIN..=600 {
            let format = format(bytes);
            let content = format.write(TOKEN, 123_456_789);
            assert_eq!(content.len(), bytes);
            assert_eq!(content.trim(), content);
            assert_eq!(format.read(&content), Reading::Ours { token: TOKEN, planned_ns: 123_456_789 });
        }
    }

    #[test]
    fn the_longest_header_fits_the_shortest_content() {
        let longest = Token { client: ClientIndex(u32::MAX), number: 999_999_999 };
        let format = format(PAYLOAD_BYTES_MIN);
        // 10^14 ns is more than a day.
        let content = format.write(longest, 99_999_999_999_999);
        assert_eq!(format.read(&content), Reading::Ours { token: longest, planned_ns: 99_999_999_999_999 });
    }

    #[test]
    fn reports_a_changed_byte_and_a_truncated_content() {
        let content = format(128).write(TOKEN, 5);
        assert_eq!(format(128).read(&content[..127]), Reading::Corrupted);
        assert_eq!(format(128).read(&content.replace("42", "43")), Reading::Corrupted);
        assert_eq!(format(128).read("lt 0000000000000abc"), Reading::Corrupted);
    }

    #[test]
    fn treats_messages_of_others_as_foreign() {
        let other = PayloadFormat { run: RunId(1), ..format(128) };
        assert_eq!(format(128).read(&other.write(TOKEN, 5)), Reading::Foreign);
        for content in ["", "lt", "hello there", "lt zz 1-2 3 x"] {
            assert_eq!(format(128).read(content), Reading::Foreign);
        }
    }

    #[test]
    fn lengths_occur_as_often_as_asked() {
        let sizes = Sizes::weighted(&[(64, 6.0), (128, 3.0), (1000, 1.0)]);
        let mut counts = std::collections::BTreeMap::new();
        for client in 0..100 {
            for number in 0..100 {
                *counts.entry(sizes.of(Token { client: ClientIndex(client), number })).or_insert(0_u32) += 1;
            }
        }
        // 10,000 sends, within six standard deviations.
        assert!(counts[&64].abs_diff(6000) < 300 && counts[&128].abs_diff(3000) < 280, "{counts:?}");
        assert!(counts[&1000].abs_diff(1000) < 180, "{counts:?}");
        let format = PayloadFormat { sizes, ..format(64) };
        let content = format.write(TOKEN, 9);
        assert_eq!(format.read(&content), Reading::Ours { token: TOKEN, planned_ns: 9 });
    }
}
