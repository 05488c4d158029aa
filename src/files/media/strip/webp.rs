//! WebP (RFC 9649): chunks in a RIFF file.

use super::remains::Stripped;
use image::metadata::Orientation;

/// Flags of `VP8X`: the file has EXIF, or XMP.
const METADATA_FLAGS: u8 = 0x08 | 0x04;
/// Bytes of an `ANMF` chunk before the chunks of its frame.
const FRAME_HEAD_BYTES: usize = 16;

/// Keeps pixels, their transparency, frames and the colour profile.
pub(super) fn strip(input: &[u8]) -> Result<Stripped, &'static str> {
    let cut = "It ends within a part.";
    let (head, rest) = input.split_first_chunk::<12>().ok_or(cut)?;
    let [b'R', b'I', b'F', b'F', l0, l1, l2, l3, b'W', b'E', b'B', b'P'] = *head else {
        return Err("It does not begin like a WebP.");
    };
    let length = (u32::from_le_bytes([l0, l1, l2, l3]) as usize).checked_sub(4).ok_or(cut)?;
    let mut rest = rest.get(..length).ok_or(cut)?;
    let mut content = head.to_vec();
    let (mut orientation, mut frames) = (Orientation::NoTransforms, 0);
    while let Some((kind, body, after)) = next_chunk(rest)? {
        rest = after;
        match &kind {
            b"VP8X" => {
                let mut body = body.to_vec();
                *body.first_mut().ok_or(cut)? &= !METADATA_FLAGS;
                append(&mut content, kind, &body);
            }
            b"ANMF" => {
                frames += 1;
                let (frame, mut parts) = body.split_at_checked(FRAME_HEAD_BYTES).ok_or(cut)?;
                let mut frame = frame.to_vec();
                while let Some((kind, body, after)) = next_chunk(parts)? {
                    parts = after;
                    if is_pixels(kind) {
                        append(&mut frame, kind, body);
                    }
                }
                append(&mut content, kind, &frame);
            }
            b"EXIF" => {
                let exif = body.strip_prefix(b"Exif\0\0").unwrap_or(body);
                orientation = Orientation::from_exif_chunk(exif).unwrap_or(orientation);
            }
            b"ICCP" | b"ANIM" => append(&mut content, kind, body),
            _ if is_pixels(kind) => append(&mut content, kind, body),
            _ => {}
        }
    }
    let length = (content.len() as u32 - 8).to_le_bytes();
    content[4..8].copy_from_slice(&length);
    Ok(Stripped { content, orientation, animated: frames > 1 })
}

fn is_pixels(kind: [u8; 4]) -> bool {
    matches!(&kind, b"VP8 " | b"VP8L" | b"ALPH")
}

type Chunk<'a> = ([u8; 4], &'a [u8], &'a [u8]);

/// The first chunk: its kind, its body, and what follows it.
fn next_chunk(input: &[u8]) -> Result<Option<Chunk<'_>>, &'static str> {
    if input.is_empty() {
        return Ok(None);
    }
    let cut = "It ends within a part.";
    let (kind, rest) = input.split_first_chunk::<4>().ok_or(cut)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(cut)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (body, rest) = rest.split_at_checked(length).ok_or(cut)?;
    // Some encoders leave out the byte that makes the last length even.
    Ok(Some((*kind, body, rest.get(length % 2..).unwrap_or_default())))
}

fn append(content: &mut Vec<u8>, kind: [u8; 4], body: &[u8]) {
    content.extend_from_slice(&kind);
    content.extend_from_slice(&(body.len() as u32).to_le_bytes());
    content.extend_from_slice(body);
    if body.len() % 2 == 1 {
        content.push(0);
    }
}
