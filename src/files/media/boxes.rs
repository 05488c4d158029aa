//! The boxes of ISO/IEC 14496-12, which films and HEIF pictures consist of.

use std::io::{self, Read, Seek, SeekFrom};

/// Boxes that are looked at.
const BOXES_MAX: u32 = 10_000;

/// Looks at boxes, a bounded number of them.
#[derive(Default)]
pub(super) struct Boxes {
    looked_at: u32,
}

/// A box.
pub(super) struct MediaBox {
    /// Its kind.
    pub kind: [u8; 4],
    /// Where its content begins.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
}

impl Boxes {
    /// The box that begins here, unless it is damaged.
    pub(super) fn next(&mut self, input: &mut (impl Read + Seek), at: u64, limit: u64) -> io::Result<Option<MediaBox>> {
        if self.looked_at == BOXES_MAX || at.saturating_add(8) > limit {
            return Ok(None);
        }
        self.looked_at += 1;
        input.seek(SeekFrom::Start(at))?;
        let mut head = [0; 16];
        let head_bytes = if limit - at < 16 { 8 } else { 16 };
        input.read_exact(&mut head[..head_bytes])?;
        let [l0, l1, l2, l3, k0, k1, k2, k3, long @ ..] = head;
        let (start, length) = match u32::from_be_bytes([l0, l1, l2, l3]) {
            0 => (at + 8, limit - at),
            1 => (at + 16, u64::from_be_bytes(long)),
            length => (at + 8, u64::from(length)),
        };
        let end = at.saturating_add(length);
        let is_sound = start <= end && end <= limit;
        Ok(is_sound.then_some(MediaBox { kind: [k0, k1, k2, k3], start, end }))
    }

    /// The first box of this kind.
    pub(super) fn find(
        &mut self,
        input: &mut (impl Read + Seek),
        mut at: u64,
        limit: u64,
        kind: [u8; 4],
    ) -> io::Result<Option<MediaBox>> {
        while let Some(found) = self.next(input, at, limit)? {
            if found.kind == kind {
                return Ok(Some(found));
            }
            at = found.end;
        }
        Ok(None)
    }
}
