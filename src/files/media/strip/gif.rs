//! GIF 89a: a header, then blocks.

use super::remains::Stripped;
use image::metadata::Orientation;

const HEADER_BYTES: usize = 13;
const IMAGE: u8 = 0x2c;
const EXTENSION: u8 = 0x21;
const TRAILER: u8 = 0x3b;
const GRAPHIC_CONTROL: u8 = 0xf9;
const APPLICATION: u8 = 0xff;
/// Application extensions that change how the picture looks: its repetitions, and its colour profile.
const APPLICATIONS: &[&[u8]] = &[b"NETSCAPE2.0", b"ANIMEXTS1.0", b"ICCRGBG1012"];

/// Keeps frames, their timing and the colour profile. A picture that was cut off is kept up to the block before.
pub(super) fn strip(input: &[u8]) -> Result<Stripped, &'static str> {
    let is_gif = input.starts_with(b"GIF87a") || input.starts_with(b"GIF89a");
    let Some(header) = input.get(..HEADER_BYTES).filter(|_| is_gif) else {
        return Err("It does not begin like a GIF.");
    };
    let start = HEADER_BYTES + palette_bytes(header[10]);
    let mut content = input.get(..start).ok_or("It ends within its palette.")?.to_vec();
    let (mut at, mut frames) = (start, 0);
    while let Some((end, is_needed)) = block(input, at) {
        if is_needed {
            content.extend_from_slice(&input[at..end]);
            frames += u32::from(input[at] == IMAGE);
        }
        at = end;
    }
    content.push(TRAILER);
    Ok(Stripped { content, orientation: Orientation::NoTransforms, animated: frames > 1 })
}

/// The end of the block that begins here, and whether it is needed. `None` at the end of the picture.
fn block(input: &[u8], at: usize) -> Option<(usize, bool)> {
    match *input.get(at)? {
        IMAGE => {
            // position and size in nine bytes with the flags, the palette, the width of codes
            let palette = palette_bytes(*input.get(at + 9)?);
            Some((sub_blocks_end(input, at + 10 + palette + 1)?, true))
        }
        EXTENSION => {
            let is_needed = match *input.get(at + 1)? {
                GRAPHIC_CONTROL => true,
                APPLICATION => {
                    let name = input.get(at + 3..at + 14)?;
                    input[at + 2] == 11 && APPLICATIONS.contains(&name)
                }
                _ => false,
            };
            Some((sub_blocks_end(input, at + 2)?, is_needed))
        }
        _ => None,
    }
}

/// Bytes of the palette that flags describe.
fn palette_bytes(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

/// Where a chain of sub-blocks ends, each with its length before it. `None` if the file ends first.
fn sub_blocks_end(input: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = usize::from(*input.get(at)?);
        at += 1 + length;
        if length == 0 {
            return Some(at);
        }
    }
}
