//! Reads contents and checks every byte. All arrivals of a message except the first cost only a comparison.
//!
//! A message arrives once per subscriber of its room, always with the same content. The first arrival on a thread is
//! read in full. Its content then stays in a table of [`SLOTS`], and later arrivals are compared with it.

use crate::check::ClientIndex;
use crate::payload::{PayloadFormat, Reading, Token};

/// Messages stored, a power of two.
const SLOTS: usize = 1 << 13;

/// Reads contents of one run; one for each thread.
#[derive(Debug)]
pub struct Contents {
    format: PayloadFormat,
    prefix: Vec<u8>,
    slots: Vec<Known>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    planned_ns: u64,
    /// Empty when there is none.
    content: Vec<u8>,
}

impl Contents {
    /// A reader that has read nothing yet.
    pub fn new(format: PayloadFormat) -> Self {
        let prefix = format!("lt {} ", format.run).into_bytes();
        Self { format, prefix, slots: vec![Known::default(); SLOTS] }
    }

    /// Reads a content.
    #[inline]
    pub fn read(&mut self, content: &[u8]) -> Reading {
        let Some(token) = self.token(content) else { return self.read_in_full(content) };
        let slot = Self::slot(token);
        let known = &self.slots[slot];
        // Equal contents have equal tokens.
        if known.content == content {
            return Reading::Ours { token, planned_ns: known.planned_ns };
        }
        let reading = self.read_in_full(content);
        if let Reading::Ours { planned_ns, .. } = reading {
            let known = &mut self.slots[slot];
            known.planned_ns = planned_ns;
            known.content.clear();
            known.content.extend_from_slice(content);
        }
        reading
    }

    fn read_in_full(&self, content: &[u8]) -> Reading {
        match std::str::from_utf8(content) {
            Ok(text) => self.format.read(text),
            Err(_) if content.starts_with(&self.prefix) => Reading::Corrupted,
            Err(_) => Reading::Foreign,
        }
    }

    /// The token at the beginning of a content.
    fn token(&self, content: &[u8]) -> Option<Token> {
        let rest = content.strip_prefix(self.prefix.as_slice())?;
        let (client, rest) = digits(rest)?;
        let (number, rest) = digits(rest.strip_prefix(b"-")?)?;
        rest.starts_with(b" ").then_some(Token { client: ClientIndex(client), number })
    }

    fn slot(token: Token) -> usize {
        // Fibonacci hashing spreads neighbouring clients. Consecutive numbers of one client stay next to each other.
        (token.client.0.wrapping_mul(0x9e37_79b1).wrapping_add(token.number)) as usize % SLOTS
    }
}

fn digits(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0_u32;
    let mut at = 0;
    while let Some(digit) = bytes.get(at).filter(|byte| byte.is_ascii_digit()) {
        value = value.checked_mul(10)?.checked_add(u32::from(digit - b'0'))?;
        at += 1;
    }
    (at > 0).then(|| (value, &bytes[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::{RunId, Sizes};

    fn format() -> PayloadFormat {
        PayloadFormat { run: RunId(0xabc), sizes: Sizes::all(128) }
    }

    fn token(client: u32, number: u32) -> Token {
        Token { client: ClientIndex(client), number }
    }

    #[test]
    fn reads_first_and_later_arrivals_alike() {
        let mut contents = Contents::new(format());
        for round in 0..3 {
            for number in 0..20_000 {
                let token = token(number % 7, number);
                let planned_ns = u64::from(number) * 1000;
                let content = format().write(token, planned_ns);
                let expected = Reading::Ours { token, planned_ns };
                assert_eq!(contents.read(content.as_bytes()), expected, "round {round}");
            }
        }
    }

    #[test]
    fn finds_a_changed_byte_before_and_after_the_content_is_known() {
        let content = format().write(token(7, 42), 5);
        let mut changed = content.clone().into_bytes();
        changed[100] ^= 1;
        let mut contents = Contents::new(format());
        assert_eq!(contents.read(&changed), Reading::Corrupted);
        assert!(matches!(contents.read(content.as_bytes()), Reading::Ours { .. }));
        assert_eq!(contents.read(&changed), Reading::Corrupted);
        assert!(matches!(contents.read(content.as_bytes()), Reading::Ours { .. }));
        assert_eq!(contents.read(&content.as_bytes()[..100]), Reading::Corrupted);
    }

    #[test]
    fn treats_other_runs_and_texts_as_foreign() {
        let mut contents = Contents::new(format());
        let other = PayloadFormat { run: RunId(0xdef), ..format() };
        assert_eq!(contents.read(other.write(token(7, 42), 5).as_bytes()), Reading::Foreign);
        assert_eq!(contents.read(b""), Reading::Foreign);
        assert_eq!(contents.read(b"\xff\xfe"), Reading::Foreign);
    }
}
