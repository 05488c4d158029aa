//! Headers of MP4 and `QuickTime` (ISO/IEC 14496-12): boxes in boxes, each with its length before it.

use super::boxes::{Boxes, MediaBox};
use super::film::Film;
use std::io::{self, Read, Seek, SeekFrom};

/// Bytes of a header that are read; the longest one that is used has 100.
const HEADER_BYTES: u64 = 128;

/// Reads the header of a film.
///
/// # Errors
/// Those of reading.
pub(super) fn read(input: &mut (impl Read + Seek)) -> io::Result<Film> {
    let end = input.seek(SeekFrom::End(0))?;
    let mut boxes = Boxes::default();
    let mut film = Film::default();
    if let Some(header) = boxes.find(input, 0, end, *b"moov")? {
        let mut at = header.start;
        while let Some(found) = boxes.next(input, at, header.end)? {
            match &found.kind {
                b"mvhd" => film.duration_s = film.duration_s.or(duration(&body(input, &found)?)),
                // The length of a film in fragments, whose own header has none.
                b"mvex" => {
                    if let Some(length) = boxes.find(input, found.start, found.end, *b"mehd")? {
                        let time_scale = time_scale(input, &mut boxes, &header)?;
                        let units = fragments(&body(input, &length)?);
                        film.duration_s = film.duration_s.or(seconds(units, time_scale));
                    }
                }
                b"trak" if film.size.is_none() => {
                    if let Some(track) = boxes.find(input, found.start, found.end, *b"tkhd")? {
                        film.size = size(&body(input, &track)?);
                    }
                }
                _ => {}
            }
            at = found.end;
        }
    }
    Ok(film)
}

/// The beginning of a box's content.
fn body(input: &mut (impl Read + Seek), found: &MediaBox) -> io::Result<Vec<u8>> {
    input.seek(SeekFrom::Start(found.start))?;
    let mut body = Vec::new();
    input.take(HEADER_BYTES.min(found.end - found.start)).read_to_end(&mut body)?;
    Ok(body)
}

fn u32_at(body: &[u8], at: usize) -> Option<u32> {
    body.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

fn u64_at(body: &[u8], at: usize) -> Option<u64> {
    body.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// Whether the times in a box have 64 bits.
fn is_long(body: &[u8]) -> bool {
    body.first() == Some(&1)
}

/// `mvhd`: version and flags, two times, units in a second, units.
fn duration(body: &[u8]) -> Option<f64> {
    let (units, unknown) =
        if is_long(body) { (u64_at(body, 24)?, u64::MAX) } else { (u64::from(u32_at(body, 16)?), u64::from(u32::MAX)) };
    seconds(Some(units).filter(|units| *units != unknown), scale(body))
}

fn scale(body: &[u8]) -> Option<u32> {
    u32_at(body, if is_long(body) { 20 } else { 12 })
}

fn time_scale(input: &mut (impl Read + Seek), boxes: &mut Boxes, header: &MediaBox) -> io::Result<Option<u32>> {
    let Some(found) = boxes.find(input, header.start, header.end, *b"mvhd")? else { return Ok(None) };
    Ok(scale(&body(input, &found)?))
}

/// `mehd`: version and flags, units.
fn fragments(body: &[u8]) -> Option<u64> {
    if is_long(body) { u64_at(body, 4) } else { u32_at(body, 4).map(u64::from) }
}

fn seconds(units: Option<u64>, time_scale: Option<u32>) -> Option<f64> {
    let (units, time_scale) = (units.filter(|units| *units > 0)?, time_scale.filter(|scale| *scale > 0)?);
    Some(units as f64 / f64::from(time_scale))
}

/// `tkhd`: the size follows the matrix that turns the picture, in units of 1/65536 pixel. Tracks of sound have none.
fn size(body: &[u8]) -> Option<(u32, u32)> {
    let matrix = if is_long(body) { 52 } else { 40 };
    let (width, height) = (u32_at(body, matrix + 36)? >> 16, u32_at(body, matrix + 40)? >> 16);
    // The matrix (a b u, c d v, x y w) turns by 90 degrees if x becomes y.
    let is_turned = u32_at(body, matrix)? == 0 && u32_at(body, matrix + 4)? != 0;
    let turned = if is_turned { (height, width) } else { (width, height) };
    (width > 0 && height > 0).then_some(turned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn atom(kind: &str, body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 8).to_be_bytes()[..], kind.as_bytes(), body].concat()
    }

    fn mvhd(time_scale: u32, units: u32) -> Vec<u8> {
        let mut body = vec![0; 100];
        body[12..16].copy_from_slice(&time_scale.to_be_bytes());
        body[16..20].copy_from_slice(&units.to_be_bytes());
        atom("mvhd", &body)
    }

    fn long_mvhd(time_scale: u32, units: u64) -> Vec<u8> {
        let mut body = vec![0; 112];
        body[0] = 1;
        body[20..24].copy_from_slice(&time_scale.to_be_bytes());
        body[24..32].copy_from_slice(&units.to_be_bytes());
        atom("mvhd", &body)
    }

    fn trak(width: u32, height: u32, is_turned: bool) -> Vec<u8> {
        let mut body = vec![0; 84];
        body[if is_turned { 44 } else { 40 }..][..4].copy_from_slice(&0x10000_u32.to_be_bytes());
        body[76..80].copy_from_slice(&(width << 16).to_be_bytes());
        body[80..84].copy_from_slice(&(height << 16).to_be_bytes());
        atom("trak", &atom("tkhd", &body))
    }

    fn film(parts: &[Vec<u8>]) -> Film {
        read(&mut Cursor::new(parts.concat())).unwrap()
    }

    #[test]
    fn reads_the_length_and_the_size_of_a_film() {
        let head = atom("ftyp", b"isom");
        let moov = atom("moov", &[mvhd(600, 7_530), trak(0, 0, false), trak(1920, 1080, true)].concat());
        let expected = Film { duration_s: Some(12.55), size: Some((1080, 1920)) };
        assert_eq!(film(&[head.clone(), moov.clone()]), expected);
        // Cameras write the header at the end.
        let long = [&1_u32.to_be_bytes()[..], b"mdat", &20_u64.to_be_bytes(), b"film"].concat();
        assert_eq!(film(&[head.clone(), long, moov.clone()]), expected);
        let long = atom("moov", &long_mvhd(1000, 5_000_000_000));
        assert_eq!(film(&[head.clone(), long]).duration_s, Some(5_000_000.0));
        let lengths = atom("mvex", &atom("mehd", &[0, 0, 0, 0, 0, 0, 0x0b, 0xb8]));
        assert_eq!(film(&[head, atom("moov", &[mvhd(1000, 0), lengths].concat())]).duration_s, Some(3.0));
    }

    #[test]
    fn a_film_without_a_length_has_none() {
        let head = atom("ftyp", b"isom");
        for moov in [vec![], mvhd(0, 10), mvhd(10, 0), mvhd(10, u32::MAX), long_mvhd(10, u64::MAX), atom("mvhd", b"")] {
            assert_eq!(film(&[head.clone(), atom("moov", &moov)]), Film::default());
        }
        let endless = [&1_u32.to_be_bytes()[..], b"free", &0_u64.to_be_bytes()].concat();
        assert_eq!(film(&[head, endless]), Film::default());
    }

    #[test]
    fn a_film_that_was_cut_off_is_no_fault() {
        let whole = [atom("ftyp", b"isom"), atom("moov", &[mvhd(600, 7_530), trak(4, 4, false)].concat())].concat();
        for end in 0..whole.len() {
            let _ = read(&mut Cursor::new(&whole[..end]));
        }
    }
}
