//! PNG (ISO/IEC 15948) and animated PNG: a list of chunks.

use super::remains::Stripped;
use flate2::read::ZlibDecoder;
use image::metadata::Orientation;
use std::io::{Read as _, copy, sink};

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
/// Bytes of a colour profile. A longer one is removed: a few kilobytes can become gigabytes.
const PROFILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Chunks without which the picture would look different. `pHYs` has the shape of its pixels.
const NEEDED: &[&[u8; 4]] = &[
    b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"cHRM", b"gAMA", b"sBIT", b"sRGB", b"cICP", b"mDCV", b"cLLI",
    b"bKGD", b"pHYs", b"acTL", b"fcTL", b"fdAT",
];

/// Keeps the chunks that are needed, up to the end of the picture.
pub(super) fn strip(input: &[u8]) -> Result<Stripped, &'static str> {
    let mut rest = input.strip_prefix(SIGNATURE).ok_or("It does not begin like a PNG.")?;
    let mut content = SIGNATURE.to_vec();
    let (mut orientation, mut animated) = (Orientation::NoTransforms, false);
    loop {
        let cut = "It ends within a part.";
        let (head, _) = rest.split_first_chunk::<8>().ok_or(cut)?;
        let [l0, l1, l2, l3, kind @ ..] = *head;
        // the length, the kind and the checksum are not counted
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize + 12;
        let (chunk, after) = rest.split_at_checked(length).ok_or(cut)?;
        rest = after;
        let body = &chunk[8..length - 4];
        let is_needed = match &kind {
            b"iCCP" => is_small_profile(body),
            kind => NEEDED.contains(&kind),
        };
        if is_needed {
            content.extend_from_slice(chunk);
        }
        match &kind {
            b"eXIf" => orientation = Orientation::from_exif_chunk(body).unwrap_or(orientation),
            b"acTL" => animated = body.first_chunk::<4>().is_some_and(|frames| u32::from_be_bytes(*frames) > 1),
            b"IEND" => return Ok(Stripped { content, orientation, animated }),
            _ => {}
        }
    }
}

/// Whether a compressed profile, which follows its name and the method, has a reasonable size.
fn is_small_profile(body: &[u8]) -> bool {
    let Some(name_end) = body.iter().position(|byte| *byte == 0) else { return false };
    let compressed = body.get(name_end + 2..).unwrap_or_default();
    let mut profile = ZlibDecoder::new(compressed).take(PROFILE_BYTES_MAX + 1);
    copy(&mut profile, &mut sink()).is_ok_and(|bytes| bytes <= PROFILE_BYTES_MAX)
}
