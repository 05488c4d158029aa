//! Frames of a server, as its clients receive them.

/// The first frame in `bytes`: opcode, payload, the rest. `None` when it is not complete. Frames of a server are
/// unmasked.
#[must_use]
pub fn split_frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (header, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        length => (2, usize::from(length)),
    };
    let end = header + length;
    (bytes.len() >= end).then(|| (bytes[0] & 0x0f, &bytes[header..end], &bytes[end..]))
}
