//! The SHA-256 of content, and the name that content has in the store.

use crate::ids::MAX_SAFE_INTEGER;
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// Bytes that one read of [`ContentHash::of`] takes.
const CHUNK_BYTES: usize = 256 * 1024;

/// The SHA-256 of content. Displayed as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ContentHash(pub [u8; 32]);

/// The name of content in the store: its hash, and a number that no other content ever had. Displayed as `HASH.NUMBER`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ContentName {
    /// The SHA-256.
    pub hash: ContentHash,
    /// The number, from `blobs.number`.
    pub number: i64,
}

impl ContentHash {
    /// The hash of everything that a file has, from its start. Blocks.
    ///
    /// # Errors
    /// The system's.
    pub fn of(file: &mut File) -> io::Result<Self> {
        file.seek(SeekFrom::Start(0))?;
        let (mut hasher, mut chunk) = (Sha256::new(), vec![0; CHUNK_BYTES]);
        loop {
            match file.read(&mut chunk)? {
                0 => return Ok(Self(hasher.finalize().into())),
                n => hasher.update(&chunk[..n]),
            }
        }
    }

    /// The hash of 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl ContentName {
    /// The name of this text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (hash, number) = text.split_once('.')?;
        let number = number.parse().ok().filter(|number| (1..=MAX_SAFE_INTEGER).contains(number))?;
        Some(Self { hash: ContentHash::parse(hash)?, number })
    }
}

impl fmt::Display for ContentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.hash, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let hash = ContentHash([15; 32]);
        assert_eq!(ContentHash::parse(&hash.to_string()), Some(hash));
        assert_eq!(hash.to_string(), "0f".repeat(32));
        let name = ContentName { hash, number: 7 };
        assert_eq!(ContentName::parse(&name.to_string()), Some(name));
        for bad in ["", "0f", &"0g".repeat(32), &"é".repeat(32)] {
            assert_eq!(ContentHash::parse(bad), None, "{bad}");
        }
        for bad in ["", "7", &hash.to_string(), &format!("{hash}."), &format!("{hash}.0"), &format!("{hash}.-1")] {
            assert_eq!(ContentName::parse(bad), None, "{bad}");
        }
    }
}
