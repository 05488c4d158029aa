//! The bytes of an upload: a block of noise, repeated, after a head with the number of the upload. No two uploads have
//! the same content, so the server stores each, and no file has to be in memory.

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

/// Bytes of the noise.
const BLOCK_BYTES: usize = 1024 * 1024;
/// Bytes of the head.
const HEAD_BYTES: usize = 32;
/// No type of file begins like this.
const MARK: &[u8; 16] = b"\0veza load test\0";

/// The content of all uploads; cloning shares the noise.
#[derive(Clone)]
pub(super) struct FileContent {
    block: Arc<[u8]>,
    size: u64,
}

impl FileContent {
    /// For files of `size` bytes.
    pub(super) fn new(size: u64) -> Self {
        let mut block = vec![0; BLOCK_BYTES];
        SmallRng::seed_from_u64(1).fill(&mut block[..]);
        Self { block: block.into(), size }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The pieces of the file with this number from `start` to `end`, in order.
    pub(super) fn pieces(
        &self,
        number: u64,
        start: u64,
        end: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut head = [0; HEAD_BYTES];
        head[..MARK.len()].copy_from_slice(MARK);
        head[MARK.len()..MARK.len() + 8].copy_from_slice(&number.to_le_bytes());
        let (mut at, end) = (start, end.min(self.size));
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            let piece = match usize::try_from(at).ok().and_then(|at| head.get(at..)).filter(|piece| !piece.is_empty()) {
                Some(piece) => piece,
                None => &self.block[(at % BLOCK_BYTES as u64) as usize..],
            };
            let piece = &piece[..piece.len().min(left)];
            take(piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Whether these bytes are the ones of the file with this number from `start` on.
    pub(super) fn is_at(&self, number: u64, start: u64, bytes: &[u8]) -> bool {
        let mut left = bytes;
        let compared = self.pieces(number, start, start + bytes.len() as u64, |piece| {
            let same = left.starts_with(piece);
            left = left.get(piece.len()..).unwrap_or_default();
            if same { Ok(()) } else { Err(String::new()) }
        });
        compared.is_ok() && left.is_empty()
    }

    /// Whether a file of the disk begins like the one with this number.
    pub(super) fn is_start_of(&self, number: u64, path: &Path) -> bool {
        let mut head = [0; HEAD_BYTES];
        let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
        read.is_ok() && self.is_at(number, 0, &head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(content: &FileContent, number: u64, cuts: &[u64]) -> Vec<u8> {
        let mut all = Vec::new();
        for range in cuts.windows(2) {
            content
                .pieces(number, range[0], range[1], |piece| {
                    all.extend_from_slice(piece);
                    Ok(())
                })
                .unwrap();
        }
        all
    }

    #[test]
    fn a_file_is_the_same_however_it_is_cut() {
        let size = BLOCK_BYTES as u64 * 2 + 100;
        let content = FileContent::new(size);
        let once = whole(&content, 7, &[0, size]);
        assert_eq!(once.len() as u64, size);
        assert!(once == whole(&content, 7, &[0, 1, 31, 32, 33, 1_048_576, 1_048_577, size]));
        assert!(once.starts_with(MARK));
    }

    #[test]
    fn a_wrong_byte_and_another_file_are_noticed() {
        let content = FileContent::new(5_000);
        let mut bytes = whole(&content, 7, &[0, 5_000]);
        assert!(content.is_at(7, 0, &bytes) && content.is_at(7, 20, &bytes[20..40]));
        assert!(!content.is_at(8, 0, &bytes), "the number is in the content");
        assert!(!content.is_at(7, 1, &bytes[..4_999]));
        bytes.push(0);
        assert!(!content.is_at(7, 0, &bytes), "longer than the file");
        bytes[4_999] ^= 1;
        assert!(!content.is_at(7, 0, &bytes[..5_000]));
    }
}
