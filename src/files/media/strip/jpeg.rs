//! JPEG (ITU-T T.81 Annex B): a list of segments, of which some are followed by compressed pixels.

use super::remains::Stripped;
use image::metadata::Orientation;

const START: u8 = 0xd8;
const END: u8 = 0xd9;
const SCAN: u8 = 0xda;
const APP0: u8 = 0xe0;
const APP1: u8 = 0xe1;
const APP2: u8 = 0xe2;
const APP14: u8 = 0xee;

/// Keeps tables, frames, scans, colour profiles, and the two headers that say how colours are stored. It ends with the
/// first picture: the previews and films that cameras append have metadata of their own. A picture that was cut off is
/// kept up to there.
pub(super) fn strip(input: &[u8]) -> Result<Stripped, &'static str> {
    if !input.starts_with(&[0xff, START]) {
        return Err("It does not begin like a JPEG.");
    }
    let mut content = vec![0xff, START];
    let mut orientation = Orientation::NoTransforms;
    let mut rest = &input[2..];
    while let Some((marker, after)) = next_marker(rest) {
        rest = after;
        match marker {
            END => break,
            // markers that stand alone
            0 | 0x01 | 0xd0..=START => continue,
            _ => {}
        }
        let Some((body, after)) = split_body(rest) else { break };
        rest = after;
        let is_needed = match marker {
            // frames, Huffman tables, scans, tables of quantisation, number of lines, restart interval
            0xc0..=0xcf | SCAN..=0xdd => true,
            APP2 => body.starts_with(b"ICC_PROFILE\0"),
            APP0 if body.len() >= 14 && body.starts_with(b"JFIF\0") => {
                // without the preview that may follow
                append(&mut content, APP0, &[&body[..12], &[0, 0]].concat());
                false
            }
            APP14 if body.len() >= 12 && body.starts_with(b"Adobe") => {
                append(&mut content, APP14, &body[..12]);
                false
            }
            APP1 => {
                if let Some(exif) = body.strip_prefix(b"Exif\0\0") {
                    orientation = Orientation::from_exif_chunk(exif).unwrap_or(orientation);
                }
                false
            }
            _ => false,
        };
        if is_needed {
            append(&mut content, marker, body);
        }
        if marker == SCAN {
            let pixels = pixels(rest);
            content.extend_from_slice(&rest[..pixels]);
            rest = &rest[pixels..];
        }
    }
    content.extend_from_slice(&[0xff, END]);
    Ok(Stripped { content, orientation, animated: false })
}

/// The next marker, and what follows it. Other bytes between segments mean nothing.
fn next_marker(input: &[u8]) -> Option<(u8, &[u8])> {
    let start = input.iter().position(|byte| *byte == 0xff)?;
    let marker = start + input[start..].iter().position(|byte| *byte != 0xff)?;
    Some((input[marker], &input[marker + 1..]))
}

/// The body of a segment, whose length precedes it.
fn split_body(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = input.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)).checked_sub(2)?)
}

/// Appends a segment. A body comes from one, so its length fits.
fn append(content: &mut Vec<u8>, marker: u8, body: &[u8]) {
    content.extend_from_slice(&[0xff, marker]);
    content.extend_from_slice(&(body.len() as u16 + 2).to_be_bytes());
    content.extend_from_slice(body);
}

/// The number of bytes up to the next marker, which is neither an escaped 0xff nor a restart.
fn pixels(input: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = input[at..].iter().position(|byte| *byte == 0xff) {
        let start = at + found;
        match input[start..].iter().position(|byte| *byte != 0xff) {
            Some(more) if matches!(input[start + more], 0 | 0xd0..=0xd7) => at = start + more + 1,
            _ => return start,
        }
    }
    input.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An EXIF segment's body with one entry, little-endian.
    fn exif(orientation: u8) -> Vec<u8> {
        let mut body = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        body.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
        body
    }

    fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
        let mut segment = Vec::new();
        append(&mut segment, marker, body);
        segment
    }

    #[test]
    fn keeps_what_pixels_need_and_nothing_after_the_picture() {
        let jfif = segment(APP0, b"JFIF\0\x01\x02\0\0\x01\0\x01\x02\x02preview of it");
        let parts = [
            vec![0xff, START],
            jfif,
            segment(APP1, &exif(6)),
            segment(APP2, b"MPF\0others"),
            segment(APP2, b"ICC_PROFILE\0\x01\x01colours"),
            segment(APP14, b"Adobe\0d\0\0\0\0\x01and more"),
            segment(0xed, b"Photoshop 3.0\0captions"),
            segment(0xfe, b"comment"),
            segment(0xdb, b"tables"),
            segment(0xc2, b"frame"),
            segment(SCAN, b"scan"),
            b"pix\xff\0els\xff\xd0more".to_vec(),
            segment(0xfe, b"comment between scans"),
            segment(0xc4, b"tables"),
            segment(SCAN, b"scan"),
            b"second".to_vec(),
            vec![0xff, 0xff, END],
            vec![0xff, START],
            segment(APP1, b"Exif\0\0the preview's"),
        ];
        let stripped = strip(&parts.concat()).unwrap();
        let expected = [
            vec![0xff, START],
            segment(APP0, b"JFIF\0\x01\x02\0\0\x01\0\x01\0\0"),
            segment(APP2, b"ICC_PROFILE\0\x01\x01colours"),
            segment(APP14, b"Adobe\0d\0\0\0\0\x01"),
            segment(0xdb, b"tables"),
            segment(0xc2, b"frame"),
            segment(SCAN, b"scan"),
            b"pix\xff\0els\xff\xd0more".to_vec(),
            segment(0xc4, b"tables"),
            segment(SCAN, b"scan"),
            b"second".to_vec(),
            vec![0xff, END],
        ];
        assert_eq!(stripped.content, expected.concat());
        assert_eq!(stripped.orientation, Orientation::Rotate90);
    }

    #[test]
    fn a_second_run_removes_nothing_more() {
        let picture = [vec![0xff, START], segment(0xfe, b"x"), segment(SCAN, b"s"), b"abc".to_vec()].concat();
        let once = strip(&picture).unwrap().content;
        assert_eq!(strip(&once).unwrap().content, once);
    }
}
