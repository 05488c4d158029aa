//! permessage-deflate (RFC 7692) without context takeover in either direction.
//!
//! Invariant: nothing survives a message. One inflater and one deflater therefore serve all connections of a shard,
//! and a compressed event is the same bytes for every receiver. The inflated size is capped while inflating: the cap
//! is checked before every growth of the output, so that a bomb costs no more than its limit (CVE-2026-1526).

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The four bytes that RFC 7692 §7.2.1 strips from the end of each message.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// Shorter messages are sent uncompressed, because deflate would lengthen them.
pub const COMPRESS_BYTES_MIN: usize = 64;

/// Why a message did not inflate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InflateError {
    /// It is longer than the limit.
    TooBig,
    /// It is not a deflate stream.
    Corrupt,
}

/// Inflates messages of any connection.
pub struct Inflater {
    stream: Decompress,
    output: Vec<u8>,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { stream: Decompress::new(false), output: Vec::new() }
    }
}

impl Inflater {
    /// Inflates one whole message; the result lives until the next call.
    ///
    /// # Errors
    /// [`InflateError::TooBig`] when the text would be longer than `max_bytes`, [`InflateError::Corrupt`] otherwise.
    pub fn inflate(&mut self, compressed: &[u8], max_bytes: usize) -> Result<&mut [u8], InflateError> {
        self.stream.reset(false);
        self.output.clear();
        for part in [compressed, &TAIL] {
            let mut rest = part;
            loop {
                if self.output.len() == self.output.capacity() {
                    if self.output.len() > max_bytes {
                        return Err(InflateError::TooBig);
                    }
                    // One byte beyond the limit proves that the message is too long.
                    let room = (max_bytes + 1 - self.output.len()).min(self.output.len().max(1_024));
                    self.output.reserve_exact(room);
                }
                let before = self.stream.total_in();
                let produced = self.output.len();
                let status = self
                    .stream
                    .decompress_vec(rest, &mut self.output, FlushDecompress::Sync)
                    .map_err(|_| InflateError::Corrupt)?;
                let consumed = (self.stream.total_in() - before) as usize;
                rest = &rest[consumed..];
                if self.output.len() > max_bytes {
                    return Err(InflateError::TooBig);
                }
                match status {
                    // A final block ends the stream. Bytes after it are not part of the text.
                    Status::StreamEnd => return self.finish(max_bytes),
                    Status::Ok | Status::BufError => {
                        let stuck = consumed == 0 && self.output.len() == produced;
                        let full = self.output.len() == self.output.capacity();
                        if !full && (rest.is_empty() || stuck) {
                            if rest.is_empty() {
                                break;
                            }
                            return Err(InflateError::Corrupt);
                        }
                    }
                }
            }
        }
        self.finish(max_bytes)
    }

    fn finish(&mut self, max_bytes: usize) -> Result<&mut [u8], InflateError> {
        if self.output.len() > max_bytes { Err(InflateError::TooBig) } else { Ok(&mut self.output) }
    }

    /// Frees a large output buffer; called when the shard is idle.
    pub fn release(&mut self) {
        if self.output.capacity() > 256 * 1_024 {
            self.output = Vec::new();
        }
    }
}

/// Compresses messages for any connection.
#[derive(Default)]
pub struct Deflater {
    /// One stream per window size 9–15, created at its first use.
    streams: [Option<Compress>; 7],
}

impl Deflater {
    /// Compresses one message with a window of 2^`window_bits` bytes (9–15); `None` when that saves nothing.
    pub fn deflate(&mut self, message: &[u8], window_bits: u8) -> Option<Vec<u8>> {
        if message.len() < COMPRESS_BYTES_MIN {
            return None;
        }
        let slot = self.streams.get_mut(usize::from(window_bits.checked_sub(9)?))?;
        let stream =
            slot.get_or_insert_with(|| Compress::new_with_window_bits(Compression::fast(), false, window_bits));
        stream.reset();
        let mut output = Vec::with_capacity(message.len() / 2 + 64);
        loop {
            let consumed = stream.total_in() as usize;
            if output.len() == output.capacity() {
                output.reserve(output.capacity().max(64));
            }
            stream.compress_vec(&message[consumed..], &mut output, FlushCompress::Sync).ok()?;
            if stream.total_in() as usize == message.len() && output.len() < output.capacity() {
                break;
            }
        }
        if output.ends_with(&TAIL) {
            output.truncate(output.len() - TAIL.len());
        }
        (output.len() < message.len()).then_some(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn inflates_no_more_than_the_limit() {
        let bomb = Deflater::default().deflate(&vec![0; 4 << 20], 15).unwrap();
        let mut inflater = Inflater::default();
        assert_eq!(inflater.inflate(&bomb, 65_536), Err(InflateError::TooBig));
        assert!(inflater.output.capacity() <= 2 * 65_536);
        assert_eq!(inflater.inflate(&bomb, 4 << 20).map(|m| m.len()), Ok(4 << 20));
    }

    #[test]
    fn rubbish_is_corrupt() {
        assert_eq!(Inflater::default().inflate(&[0xff, 0xff, 0xff], 100), Err(InflateError::Corrupt));
    }

    #[test]
    fn the_rfc_example_inflates() {
        // RFC 7692 §7.2.3.1: "Hello".
        let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(Inflater::default().inflate(&hello, 5).map(|m| m.to_vec()), Ok(b"Hello".to_vec()));
        assert_eq!(Inflater::default().inflate(&hello, 4), Err(InflateError::TooBig));
        // §7.2.3.5: a stream that ends with BFINAL.
        let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
        assert_eq!(Inflater::default().inflate(&last, 5).map(|m| m.to_vec()), Ok(b"Hello".to_vec()));
    }

    proptest! {
        #[test]
        fn round_trip(text in "[a-e ]{64,3000}", bits in 9u8..=15) {
            let mut deflater = Deflater::default();
            if let Some(compressed) = deflater.deflate(text.as_bytes(), bits) {
                let mut inflater = Inflater::default();
                prop_assert_eq!(inflater.inflate(&compressed, text.len()).map(|m| m.to_vec()), Ok(text.into_bytes()));
            }
        }
    }
}
