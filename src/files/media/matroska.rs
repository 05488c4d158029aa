//! Headers of Matroska and `WebM` (RFC 9559): elements in elements (EBML, RFC 8794), each with its length before it.

use super::film::Film;
use std::io::{self, Read, Seek, SeekFrom};

/// Elements that are looked at. The header is near the beginning.
const ELEMENTS_MAX: u32 = 1_000;

const SEGMENT: u32 = 0x1853_8067;
const INFO: u32 = 0x1549_a966;
const TIMESTAMP_SCALE: u32 = 0x2a_d7b1;
const DURATION: u32 = 0x4489;
const TRACKS: u32 = 0x1654_ae6b;
const TRACK: u32 = 0xae;
const VIDEO: u32 = 0xe0;
const PIXEL_WIDTH: u32 = 0xb0;
const PIXEL_HEIGHT: u32 = 0xba;
const CLUSTER: u32 = 0x1f43_b675;

/// An element: its number, where its content begins, and where it ends.
struct Element {
    id: u32,
    start: u64,
    end: u64,
}

struct Elements<'a, R> {
    input: &'a mut R,
    looked_at: u32,
}

/// Reads the header of a film.
///
/// # Errors
/// Those of reading.
pub(super) fn read(input: &mut (impl Read + Seek)) -> io::Result<Film> {
    let end = input.seek(SeekFrom::End(0))?;
    let mut elements = Elements { input, looked_at: 0 };
    let mut film = Film::default();
    let Some(segment) = elements.find(0, end, SEGMENT)? else { return Ok(film) };
    let mut at = segment.start;
    while let Some(element) = elements.next(at, segment.end)? {
        match element.id {
            INFO => film.duration_s = elements.duration(&element)?,
            TRACKS => film.size = elements.size(&element)?,
            // Frames follow, and live recordings do not know how many.
            CLUSTER => break,
            _ => {}
        }
        at = element.end;
    }
    Ok(film)
}

impl<R: Read + Seek> Elements<'_, R> {
    /// The element that begins here. One of unknown length, or of one that is damaged, ends with what it is in.
    fn next(&mut self, at: u64, limit: u64) -> io::Result<Option<Element>> {
        if self.looked_at == ELEMENTS_MAX || at >= limit {
            return Ok(None);
        }
        self.looked_at += 1;
        self.input.seek(SeekFrom::Start(at))?;
        let Some((id, id_bytes)) = self.number(4, true)? else { return Ok(None) };
        let Some((length, length_bytes)) = self.number(8, false)? else { return Ok(None) };
        let start = at + id_bytes + length_bytes;
        let is_unknown = length == (1 << (7 * length_bytes)) - 1;
        let end = if is_unknown { limit } else { start.saturating_add(length).min(limit) };
        Ok((start <= end).then_some(Element { id: id as u32, start, end }))
    }

    fn find(&mut self, mut at: u64, limit: u64, id: u32) -> io::Result<Option<Element>> {
        while let Some(element) = self.next(at, limit)? {
            if element.id == id {
                return Ok(Some(element));
            }
            at = element.end;
        }
        Ok(None)
    }

    /// A number whose first byte says how many follow, and its bytes. Identifiers keep the bit that says it.
    fn number(&mut self, bytes_max: u32, keeps_marker: bool) -> io::Result<Option<(u64, u64)>> {
        let mut first = [0];
        self.input.read_exact(&mut first)?;
        let more = first[0].leading_zeros();
        if more >= bytes_max {
            return Ok(None);
        }
        let mut number = u64::from(if keeps_marker { first[0] } else { first[0] & !(0x80 >> more) });
        for _ in 0..more {
            let mut byte = [0];
            self.input.read_exact(&mut byte)?;
            number = number << 8 | u64::from(byte[0]);
        }
        Ok(Some((number, u64::from(more) + 1)))
    }

    /// The content of an element with a number.
    fn value(&mut self, element: &Element) -> io::Result<([u8; 8], usize)> {
        let length = (element.end - element.start).min(8) as usize;
        let mut bytes = [0; 8];
        self.input.seek(SeekFrom::Start(element.start))?;
        self.input.read_exact(&mut bytes[8 - length..])?;
        Ok((bytes, length))
    }

    fn duration(&mut self, info: &Element) -> io::Result<Option<f64>> {
        let (mut nanoseconds, mut units) = (1_000_000, None);
        let mut at = info.start;
        while let Some(element) = self.next(at, info.end)? {
            match element.id {
                TIMESTAMP_SCALE => nanoseconds = u64::from_be_bytes(self.value(&element)?.0),
                DURATION => {
                    units = match self.value(&element)? {
                        (bytes, 8) => Some(f64::from_be_bytes(bytes)),
                        ([.., a, b, c, d], 4) => Some(f64::from(f32::from_be_bytes([a, b, c, d]))),
                        _ => None,
                    }
                }
                _ => {}
            }
            at = element.end;
        }
        Ok(units.map(|units| units * nanoseconds as f64 / 1e9))
    }

    /// The size of the first picture.
    fn size(&mut self, tracks: &Element) -> io::Result<Option<(u32, u32)>> {
        let mut at = tracks.start;
        while let Some(track) = self.next(at, tracks.end)? {
            at = track.end;
            if track.id != TRACK {
                continue;
            }
            let Some(video) = self.find(track.start, track.end, VIDEO)? else { continue };
            let width = self.find(video.start, video.end, PIXEL_WIDTH)?;
            let height = self.find(video.start, video.end, PIXEL_HEIGHT)?;
            if let (Some(width), Some(height)) = (width, height) {
                let (width, height) = (self.value(&width)?.0, self.value(&height)?.0);
                let size = (u32::try_from(u64::from_be_bytes(width)), u32::try_from(u64::from_be_bytes(height)));
                return Ok(size.0.ok().zip(size.1.ok()));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn element(id: u32, body: &[u8]) -> Vec<u8> {
        let id: Vec<u8> = id.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        [&id[..], &(0x1000_0000 | body.len() as u32).to_be_bytes(), body].concat()
    }

    fn parts() -> Vec<u8> {
        let video = element(VIDEO, &[element(PIXEL_WIDTH, &[5, 0]), element(PIXEL_HEIGHT, &[2, 208])].concat());
        let tracks = [element(TRACK, b""), element(TRACK, &video)].concat();
        let info = [element(TIMESTAMP_SCALE, &[0x0f, 0x42, 0x40]), element(DURATION, &2_500.25_f64.to_be_bytes())];
        let space = element(0xec, &[0; 200]);
        [space, element(INFO, &info.concat()), element(TRACKS, &tracks), element(CLUSTER, b"frames")].concat()
    }

    #[test]
    fn reads_the_length_and_the_size_of_a_film() {
        let expected = Film { duration_s: Some(2.500_25), size: Some((1280, 720)) };
        let head = element(0x1a45_dfa3, b"doctype");
        let film = [head.clone(), element(SEGMENT, &parts())].concat();
        assert_eq!(read(&mut Cursor::new(film)).unwrap(), expected);
        // A live recording does not know its length, but this one was completed later.
        for unknown in [&b"\xff"[..], b"\x01\xff\xff\xff\xff\xff\xff\xff"] {
            let film = [&head[..], &SEGMENT.to_be_bytes(), unknown, &parts()].concat();
            assert_eq!(read(&mut Cursor::new(film)).unwrap(), expected);
        }
        let short = element(SEGMENT, &element(INFO, &element(DURATION, &1_500_f32.to_be_bytes())));
        assert_eq!(read(&mut Cursor::new(short)).unwrap().duration_s, Some(1.5));
    }

    #[test]
    fn a_film_that_was_cut_off_is_no_fault() {
        let whole = element(SEGMENT, &parts());
        for end in 0..whole.len() {
            let _ = read(&mut Cursor::new(&whole[..end]));
        }
    }
}
