//! The content of a test message: who sent it, when it was planned, then readable padding.
//!
//! Layout, ASCII: `lt RUN CLIENT-NUMBER PLANNED_NS padding…`, where `PLANNED_NS` counts from the run's epoch. A receiver in
//! the same process thus knows the delivery latency from the *planned* time, and which send it looks at, without any
//! shared table. The padding is words, not one repeated letter, so that neither a spam filter nor compression sees
//! something unlike chat; the last character is never a blank, which a server may trim.
//!
//! Invariant: the padding is a function of the token, so a receiver checks every byte. If it were random, a server that
//! cuts or mixes contents would pass.

use crate::check::ClientIndex;
use std::fmt;
use std::fmt::Write;
use std::str::FromStr;

/// Shortest content that holds the header, characters.
pub const PAYLOAD_BYTES_MIN: usize = 64;
/// The server's default for the longest message, characters.
pub const PAYLOAD_BYTES_MAX: usize = 4000;

const WORDS: &str = "the quick brown fox jumps over a lazy dog while seven bright boats drift past our quiet harbour and \
    somebody on deck hums an old tune about rain in early spring until evening lamps come on along the water ";

/// Tells this run's messages from those of other runs in the same rooms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One send of this run: the client and its how-manieth message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Token {
    /// Who sent it.
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
        /// Which send.
        token: Token,
        /// Planned send time, nanoseconds since the epoch of the run.
        planned_ns: u64,
    },
    /// It names this run, but is not what was sent.
    Corrupted,
}

/// Writes and reads contents of one run.
#[derive(Clone, Copy, Debug)]
pub struct PayloadFormat {
    /// The run.
    pub run: RunId,
    /// Length of every content, within [`PAYLOAD_BYTES_MIN`] and [`PAYLOAD_BYTES_MAX`].
    pub bytes: usize,
}

impl PayloadFormat {
    /// The content of one send.
    pub fn write(&self, token: Token, planned_ns: u64) -> String {
        let mut content = String::with_capacity(self.bytes + 8);
        // Writing into a String cannot fail.
        let _ = write!(content, "lt {} {token} {planned_ns} ", self.run);
        let mut at = (token.number as usize * 7 + token.client.0 as usize * 13) % WORDS.len();
        while content.len() < self.bytes {
            let take = (self.bytes - content.len()).min(WORDS.len() - at);
            content.push_str(&WORDS[at..at + take]);
            at = 0;
        }
        content.truncate(self.bytes);
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

    /// What a content says.
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

    const FORMAT: PayloadFormat = PayloadFormat { run: RunId(0xabc), bytes: 128 };
    const TOKEN: Token = Token { client: ClientIndex(7), number: 42 };

    #[test]
    fn what_is_written_is_read_back_at_every_length() {
        for bytes in PAYLOAD_BYTES_MIN..=600 {
            let format = PayloadFormat { bytes, ..FORMAT };
            let content = format.write(TOKEN, 123_456_789);
            assert_eq!(content.len(), bytes);
            assert_eq!(content.trim(), content);
            assert_eq!(format.read(&content), Reading::Ours { token: TOKEN, planned_ns: 123_456_789 });
        }
    }

    #[test]
    fn the_longest_header_fits_the_shortest_content() {
        let longest = Token { client: ClientIndex(u32::MAX), number: 999_999_999 };
        let format = PayloadFormat { bytes: PAYLOAD_BYTES_MIN, ..FORMAT };
        // 10^14 ns is more than a day.
        let content = format.write(longest, 99_999_999_999_999);
        assert_eq!(format.read(&content), Reading::Ours { token: longest, planned_ns: 99_999_999_999_999 });
    }

    #[test]
    fn a_changed_byte_or_a_cut_tail_is_corruption() {
        let content = FORMAT.write(TOKEN, 5);
        assert_eq!(FORMAT.read(&content[..127]), Reading::Corrupted);
        assert_eq!(FORMAT.read(&content.replace("42", "43")), Reading::Corrupted);
        assert_eq!(FORMAT.read("lt 0000000000000abc"), Reading::Corrupted);
    }

    #[test]
    fn other_peoples_messages_are_foreign() {
        let other = PayloadFormat { run: RunId(1), ..FORMAT };
        assert_eq!(FORMAT.read(&other.write(TOKEN, 5)), Reading::Foreign);
        for content in ["", "lt", "hello there", "lt zz 1-2 3 x"] {
            assert_eq!(FORMAT.read(content), Reading::Foreign);
        }
    }
}
