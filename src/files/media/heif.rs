//! HEIC and AVIF (ISO/IEC 23008-12): pictures as items of a file. A list says of what kind an item is, and another one
//! where its bytes are.
//!
//! Metadata are items too. They are overwritten with empty ones of the same length, so that nothing else in the file
//! moves. Zeros alone would not do: libavif refuses a picture whose EXIF is none. Pictures are turned by properties of
//! their own, not by EXIF.

use super::boxes::{Boxes, MediaBox};
use super::report::{ExaminationError, MediaReport, ServedCopy};
use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;
use std::path::Path;

const TYPES: &[&str] = &["image/heif", "image/avif"];
/// Kinds of items with pixels, or with a list of such items.
const PICTURES: &[&[u8; 4]] = &[
    b"hvc1", b"hev1", b"lhv1", b"vvc1", b"av01", b"avc1", b"j2k1", b"jpeg", b"unci", b"grid", b"iovl", b"iden", b"tmap",
];
/// What takes the place of metadata: its beginning, and the byte that fills the rest.
struct Filler {
    start: &'static [u8],
    rest: u8,
}

/// The distance to the header of TIFF, which follows at once, and a directory without entries.
const EXIF: Filler = Filler { start: b"\0\0\0\0II*\0\x08\0\0\0\0\0\0\0\0\0", rest: 0 };
const XMP: Filler = Filler { start: b"<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"/>", rest: b' ' };
const UNKNOWN: Filler = Filler { start: b"", rest: 0 };
/// Parts of all items. A picture in tiles has hundreds.
const EXTENTS_MAX: usize = 20_000;
/// The box in which Adobe's programs put XMP beside the items.
const XMP_BOX: &[u8] = b"\xbe\x7a\xcf\xcb\x97\xa9\x42\xe8\x9c\x71\x99\x94\x91\xe3\xaf\xac";

/// Whether it is of this kind.
pub(super) fn is_known(media_type: &str) -> bool {
    TYPES.contains(&media_type)
}

/// Removes the metadata. The picture has no thumbnails.
///
/// # Errors
/// The lists of items are damaged, or the folder cannot be written to.
pub(super) fn examine(mut content: Vec<u8>, media_type: &str, out_dir: &Path) -> Result<MediaReport, ExaminationError> {
    let metadata = metadata(&content)
        .ok_or_else(|| ExaminationError::File("The picture cannot be read: its lists are damaged.".to_owned()))?;
    let mut is_whole = true;
    for (range, filler) in metadata {
        is_whole &= !filler.overwrite(&mut content[range]);
    }
    let served = if is_whole { None } else { Some(ServedCopy::write(&content, media_type, out_dir)?) };
    Ok(MediaReport { served, ..MediaReport::default() })
}

impl Filler {
    /// Whether it changes the part.
    fn overwrite(&self, part: &mut [u8]) -> bool {
        let start = if self.start.len() <= part.len() { self.start } else { &[] };
        let (head, tail) = part.split_at_mut(start.len());
        let is_changed = head != start || tail.iter().any(|byte| *byte != self.rest);
        head.copy_from_slice(start);
        tail.fill(self.rest);
        is_changed
    }
}

/// The bytes of metadata, and what takes their place. `None` if a list cannot be read.
fn metadata(content: &[u8]) -> Option<Vec<(Range<usize>, Filler)>> {
    let mut input = Cursor::new(content);
    let (mut boxes, end) = (Boxes::default(), content.len() as u64);
    let (mut ranges, mut at) = (Vec::new(), 0);
    while let Some(found) = boxes.next(&mut input, at, end).ok()? {
        match &found.kind {
            b"uuid" if body(content, &found).starts_with(XMP_BOX) => {
                ranges.push((found.start as usize + XMP_BOX.len()..found.end as usize, XMP));
            }
            b"meta" => {
                // version and flags come first
                let (start, limit) = (found.start + 4, found.end);
                let mut child = |kind| boxes.find(&mut input, start, limit, kind).ok();
                let (information, locations) = (child(*b"iinf")?, child(*b"iloc")?);
                let data = child(*b"idat")?.map_or(0..0, |data| data.start as usize..data.end as usize);
                let kinds = information.map_or_else(|| Some(HashMap::new()), |list| kinds(body(content, &list)))?;
                let items = locations.map_or_else(
                    || Some(Vec::new()),
                    |list| items(ItemFields(body(content, &list)), content.len(), &data),
                )?;
                for (item, range) in items {
                    match kinds.get(&item) {
                        Some(kind) if PICTURES.contains(&kind) => {}
                        Some(b"Exif") => ranges.push((range, EXIF)),
                        Some(b"mime") => ranges.push((range, XMP)),
                        _ => ranges.push((range, UNKNOWN)),
                    }
                }
            }
            _ => {}
        }
        at = found.end;
    }
    Some(ranges)
}

/// The content of a box, whose ends are within the file.
fn body<'a>(content: &'a [u8], found: &MediaBox) -> &'a [u8] {
    &content[found.start as usize..found.end as usize]
}

/// The kinds of items (`iinf`).
fn kinds(information: &[u8]) -> Option<HashMap<u64, [u8; 4]>> {
    let mut fields = ItemFields(information);
    let version = fields.number(4)? >> 24;
    let count_bytes = if version == 0 { 2 } else { 4 };
    fields.number(count_bytes)?;
    let mut kinds = HashMap::new();
    while !fields.0.is_empty() {
        let length = fields.number(4)?.checked_sub(8)?;
        let (kind, entry) = (fields.take(4)?, fields.take(usize::try_from(length).ok()?)?);
        let mut entry = ItemFields(entry);
        let version = entry.number(4)? >> 24;
        // Older ones have no kind.
        if kind != b"infe" || version < 2 {
            continue;
        }
        let item = entry.number(if version == 2 { 2 } else { 4 })?;
        entry.number(2)?;
        kinds.insert(item, *entry.take(4)?.first_chunk()?);
    }
    Some(kinds)
}

/// The numbers of items, with their bytes in the file (`iloc`); `data` is where `idat` has its content.
fn items(mut fields: ItemFields<'_>, file_bytes: usize, data: &Range<usize>) -> Option<Vec<(u64, Range<usize>)>> {
    let version = fields.number(4)? >> 24;
    let sizes = fields.number(2)?;
    let size = |shift: u32| (sizes >> shift & 15) as usize;
    let (offset_bytes, length_bytes, base_bytes) = (size(12), size(8), size(4));
    let index_bytes = if version == 0 { 0 } else { size(0) };
    let id_bytes = if version < 2 { 2 } else { 4 };
    let mut ranges = Vec::new();
    for _ in 0..fields.number(id_bytes)? {
        let item = fields.number(id_bytes)?;
        let method = if version == 0 { 0 } else { fields.number(2)? & 15 };
        fields.number(2)?;
        let base = fields.number(base_bytes)?;
        for _ in 0..fields.number(2)? {
            fields.number(index_bytes)?;
            let offset = usize::try_from(base.checked_add(fields.number(offset_bytes)?)?).ok()?;
            let length = usize::try_from(fields.number(length_bytes)?).ok()?;
            let place = match method {
                0 => 0..file_bytes,
                1 => data.clone(),
                // bytes of another item, which is no metadata or is removed itself
                _ => continue,
            };
            let start = place.start.checked_add(offset)?.min(place.end);
            // A length of zero means all that follows.
            let end = if length == 0 { place.end } else { start.checked_add(length)?.min(place.end) };
            if ranges.len() == EXTENTS_MAX {
                return None;
            }
            ranges.push((item, start..end));
        }
    }
    Some(ranges)
}

/// Numbers in a box, each of so many bytes.
struct ItemFields<'a>(&'a [u8]);

impl<'a> ItemFields<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    /// `None` at the end, and for a number of more than eight bytes.
    fn number(&mut self, bytes: usize) -> Option<u64> {
        let taken = self.take(bytes).filter(|_| bytes <= 8)?;
        Some(taken.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn atom(kind: &str, body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 8).to_be_bytes()[..], kind.as_bytes(), body].concat()
    }

    fn entry(item: u16, kind: &str) -> Vec<u8> {
        atom("infe", &[&[2, 0, 0, 0][..], &item.to_be_bytes(), &[0, 0], kind.as_bytes(), b"\0"].concat())
    }

    /// A picture with its pixels and EXIF behind the lists, and XMP within them.
    fn picture() -> Vec<u8> {
        let information = [entry(1, "hvc1"), entry(2, "Exif"), entry(3, "mime")].concat();
        let information = atom("iinf", &[&[0, 0, 0, 0, 0, 3][..], &information].concat());
        let data = atom("idat", b"__<xmp>SECRET is everything here and more</xmp>__");
        let head = atom("ftyp", b"heic");
        let locations = |start: u32| {
            let item = |item: u16, method: u16, offset: u32, length: u32| {
                let numbers = [item, method, 0, 1].map(u16::to_be_bytes).concat();
                [&numbers[..], &offset.to_be_bytes(), &length.to_be_bytes()].concat()
            };
            let items = [item(1, 0, start, 6), item(2, 0, start + 6, 19), item(3, 1, 2, 46)].concat();
            atom("iloc", &[&[1, 0, 0, 0, 0x44, 0, 0, 3][..], &items].concat())
        };
        let meta = |start| atom("meta", &[&[0; 4][..], &information, &locations(start), &data].concat());
        let start = head.len() + meta(0).len() + 8;
        let xmp = atom("uuid", &[XMP_BOX, b"SECRET"].concat());
        [head, meta(start as u32), atom("mdat", b"pixelsexif: SECRET: placepixels"), xmp].concat()
    }

    fn served(content: &[u8]) -> Option<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let report = examine(content.to_vec(), "image/heif", folder.path()).ok()?;
        report.served.map(|served| std::fs::read(folder.path().join(served.file)).unwrap())
    }

    #[test]
    fn overwrites_metadata_and_nothing_else() {
        let picture = picture();
        let replace = |old: &[u8], new: &[u8], content: &[u8]| {
            assert_eq!(old.len(), new.len());
            let at = content.windows(old.len()).position(|window| window == old).unwrap();
            [&content[..at], new, &content[at + old.len()..]].concat()
        };
        let empty = b"<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"/>         ";
        let expected = replace(b"<xmp>SECRET is everything here and more</xmp>_", empty, &picture);
        let empty = b"\0\0\0\0II*\0\x08\0\0\0\0\0\0\0\0\0\0";
        let expected = replace(b"exif: SECRET: place", empty, &expected);
        let expected = replace(b"SECRET", b"      ", &expected);
        assert_eq!(served(&picture).unwrap(), expected);
        assert_eq!(served(&expected), None, "it has none left");
    }

    #[test]
    fn a_picture_with_damaged_lists_is_refused_and_no_fault() {
        let picture = picture();
        for end in 0..picture.len() {
            let _ = served(&picture[..end]);
        }
        for at in 0..picture.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = picture.clone();
                damaged[at] = value;
                let _ = served(&damaged);
            }
        }
        let at = picture.windows(4).position(|window| window == b"iloc").unwrap();
        let mut damaged = picture;
        damaged[at + 11] = 9;
        let folder = tempfile::tempdir().unwrap();
        let refused = examine(damaged, "image/heif", folder.path()).unwrap_err();
        assert!(matches!(refused, ExaminationError::File(_)), "{refused}");
    }
}
