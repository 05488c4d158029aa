//! The items of a file of JSON, one after the other: lines (JSONL), or the elements of a list.
//!
//! Invariants:
//! - memory is bounded by [`ITEM_BYTES_MAX`], however long a file, a line or an element is;
//! - an item is given only when all of it is there, so a file that ends early is no shorter list;
//! - what is not UTF-8 ends the reading.
//!
//! What an item holds is checked when it is parsed. Here only brackets and quotes count.

use std::io::{self, Read};

/// Bytes of an item. Mattermost reads lines of the same length.
pub(super) const ITEM_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes that one read takes.
const READ_BYTES: usize = 256 * 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What the items of a file are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ItemShape {
    /// One on each line.
    Lines,
    /// The elements of one list.
    List,
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ItemFault {
    #[error("it is longer than {} MiB", ITEM_BYTES_MAX / (1024 * 1024))]
    TooLong,
    #[error("these bytes are not UTF-8. The export was changed by another program, or is no export")]
    NotUtf8,
    #[error("the file ends here, before its end. Copy it or make the export again")]
    Truncated,
    #[error("this is no list of JSON")]
    NoList,
    #[error("the file has something behind the end of its list")]
    Behind,
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Gives each item of a file with its number, from 1. Returns the number of items, or where the reading failed and why.
pub(super) fn each_item<E>(
    bytes: &mut dyn Read,
    shape: ItemShape,
    mut progress: impl FnMut(u64),
    mut give: impl FnMut(u64, &str) -> Result<(), E>,
) -> Result<Result<u64, E>, (u64, ItemFault)> {
    let mut splitter = Splitter::new(shape);
    let mut chunk = vec![0; READ_BYTES];
    let mut is_first = true;
    let mut given = 0;
    loop {
        let length = match bytes.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err((given + 1, error.into())),
        };
        progress(length as u64);
        let mut rest = &chunk[..length];
        if is_first {
            is_first = false;
            if rest.starts_with(b"\xff\xfe") || rest.starts_with(b"\xfe\xff") {
                return Err((1, ItemFault::NotUtf8));
            }
            rest = rest.strip_prefix(BYTE_ORDER_MARK).unwrap_or(rest);
        }
        while !rest.is_empty() {
            let (used, is_complete) = splitter.feed(rest).map_err(|fault| (given + 1, fault))?;
            rest = &rest[used..];
            if is_complete {
                given += 1;
                let text = std::str::from_utf8(&splitter.item).map_err(|_| (given, ItemFault::NotUtf8))?;
                if let Err(error) = give(given, text) {
                    return Ok(Err(error));
                }
                splitter.item.clear();
            }
        }
    }
    if splitter.finish().map_err(|fault| (given + 1, fault))? {
        given += 1;
        let text = std::str::from_utf8(&splitter.item).map_err(|_| (given, ItemFault::NotUtf8))?;
        if let Err(error) = give(given, text) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(given))
}

/// Where a list is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// Before its bracket.
    Begin,
    /// Before an element, or the end of an empty list.
    First,
    /// Before an element, behind a comma.
    Next,
    /// In an element.
    Inside,
    /// Behind its end.
    End,
}

struct Splitter {
    shape: ItemShape,
    item: Vec<u8>,
    at: At,
    depth: u32,
    is_text: bool,
    is_escaped: bool,
}

impl Splitter {
    const fn new(shape: ItemShape) -> Self {
        Self { shape, item: Vec::new(), at: At::Begin, depth: 0, is_text: false, is_escaped: false }
    }

    /// Takes bytes. Returns how many, and whether an item is complete.
    fn feed(&mut self, bytes: &[u8]) -> Result<(usize, bool), ItemFault> {
        match self.shape {
            ItemShape::Lines => self.feed_line(bytes),
            ItemShape::List => self.feed_list(bytes),
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), ItemFault> {
        if self.item.len() + bytes.len() > ITEM_BYTES_MAX {
            return Err(ItemFault::TooLong);
        }
        self.item.extend_from_slice(bytes);
        Ok(())
    }

    fn feed_line(&mut self, bytes: &[u8]) -> Result<(usize, bool), ItemFault> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        self.keep(&bytes[..end.unwrap_or(bytes.len())])?;
        Ok(end.map_or((bytes.len(), false), |end| (end + 1, true)))
    }

    fn feed_list(&mut self, bytes: &[u8]) -> Result<(usize, bool), ItemFault> {
        // Where the part of the element begins that is not kept yet.
        let mut from = 0;
        for (at, byte) in bytes.iter().copied().enumerate() {
            let is_space = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
            match self.at {
                At::Begin | At::First | At::Next | At::End if is_space => {}
                At::Begin if byte == b'[' => self.at = At::First,
                At::Begin => return Err(ItemFault::NoList),
                At::First if byte == b']' => self.at = At::End,
                At::End => return Err(ItemFault::Behind),
                At::First | At::Next => {
                    self.at = At::Inside;
                    from = at;
                    self.step(byte);
                }
                At::Inside if self.is_text || self.depth > 0 => self.step(byte),
                At::Inside if byte == b',' || byte == b']' => {
                    self.at = if byte == b',' { At::Next } else { At::End };
                    self.keep(&bytes[from..at])?;
                    return Ok((at + 1, true));
                }
                At::Inside => self.step(byte),
            }
        }
        if self.at == At::Inside {
            self.keep(&bytes[from..])?;
        }
        Ok((bytes.len(), false))
    }

    fn step(&mut self, byte: u8) {
        if self.is_text {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.is_text = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.is_text = true,
            b'[' | b'{' => self.depth = self.depth.saturating_add(1),
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    /// The end of the file. Returns whether a last item is left.
    fn finish(&self) -> Result<bool, ItemFault> {
        match (self.shape, self.at) {
            (ItemShape::Lines, _) => Ok(!self.item.is_empty()),
            (ItemShape::List, At::End) => Ok(false),
            (ItemShape::List, _) => Err(ItemFault::Truncated),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes in pieces of a size.
    struct Pieces<'b>(&'b [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(buffer.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    fn items(bytes: &[u8], shape: ItemShape, piece: usize) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        let read = each_item(
            &mut Pieces(bytes, piece),
            shape,
            |_| {},
            |_, item| {
                found.push(item.trim().to_owned());
                Ok::<(), ()>(())
            },
        );
        read.map(|_| found).map_err(|(n, fault)| format!("{n}: {fault}"))
    }

    #[test]
    fn items_do_not_depend_on_how_bytes_are_split() {
        let list = "\u{feff} [ {\"a\": \"]}\\\"é\", \"b\": [1, {}]} ,\n 2, \"x,y\" ]\n".as_bytes();
        let lines = "\u{feff}{\"a\": 1}\r\n\n{\"é\": 2}".as_bytes();
        for piece in 3..20 {
            let expected = ["{\"a\": \"]}\\\"é\", \"b\": [1, {}]}", "2", "\"x,y\""];
            assert_eq!(items(list, ItemShape::List, piece).unwrap(), expected);
            assert_eq!(items(lines, ItemShape::Lines, piece).unwrap(), ["{\"a\": 1}", "", "{\"é\": 2}"]);
        }
        assert!(items(b"[]", ItemShape::List, 1).unwrap().is_empty());
    }

    #[test]
    fn refuses_what_is_no_whole_list() {
        for (bytes, why) in [
            (&b"{}"[..], "1: this is no list"),
            (b"", "1: the file ends"),
            (b"[1, {\"a\": 2", "2: the file ends"),
            (b"[1] []", "2: the file has something"),
            (b"[\"\xe9\"]", "1: these bytes are not UTF-8"),
            (b"\xff\xfe[\0]\0", "1: these bytes are not UTF-8"),
        ] {
            let fault = items(bytes, ItemShape::List, 4).unwrap_err();
            assert!(fault.starts_with(why), "{fault}");
        }
    }

    #[test]
    fn no_item_takes_more_than_its_share_of_memory() {
        let long = vec![b'['; ITEM_BYTES_MAX + 2];
        for shape in [ItemShape::Lines, ItemShape::List] {
            let fault = items(&long, shape, READ_BYTES).unwrap_err();
            assert!(fault.contains("longer than 16 MiB"), "{fault}");
        }
    }
}
