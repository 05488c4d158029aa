//! Server-side frames: unmasked, one frame per message (RFC 6455 §5).

use super::{Opcode, close::CloseCode};

/// Longest frame header of the server: 2 + 8 bytes, no mask.
pub const HEADER_BYTES_MAX: usize = 10;

/// Writes the header of a final frame with `payload_len` bytes into `buffer`; returns the header's length.
pub fn header(opcode: Opcode, compressed: bool, payload_len: usize, buffer: &mut [u8; HEADER_BYTES_MAX]) -> usize {
    buffer[0] = 0x80 | u8::from(compressed) << 6 | opcode as u8;
    match payload_len {
        0..=125 => {
            buffer[1] = payload_len as u8;
            2
        }
        126..=0xffff => {
            buffer[1] = 126;
            buffer[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
            4
        }
        _ => {
            buffer[1] = 127;
            buffer[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
            10
        }
    }
}

/// A whole frame: header and payload in one allocation.
#[must_use]
pub fn frame(opcode: Opcode, compressed: bool, payload: &[u8]) -> Vec<u8> {
    let mut head = [0; HEADER_BYTES_MAX];
    let head_len = header(opcode, compressed, payload.len(), &mut head);
    let mut frame = Vec::with_capacity(head_len + payload.len());
    frame.extend_from_slice(&head[..head_len]);
    frame.extend_from_slice(payload);
    frame
}

/// A close frame with a code and a reason; the reason is cut at a character boundary to fit 125 bytes.
#[must_use]
pub fn close(code: CloseCode, reason: &str) -> Vec<u8> {
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = Vec::with_capacity(2 + end);
    payload.extend_from_slice(&code.number().to_be_bytes());
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    frame(Opcode::Close, false, &payload)
}

/// A message frame whose payload is written by `write`. The header is filled in afterwards, in reserved space in front,
/// so that the payload is serialised once and in place.
///
/// # Errors
/// The error of `write`.
pub fn message_with<E>(opcode: Opcode, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<Vec<u8>, E> {
    let mut buffer = Vec::with_capacity(256);
    buffer.resize(HEADER_BYTES_MAX, 0);
    write(&mut buffer)?;
    let mut head = [0; HEADER_BYTES_MAX];
    let head_len = header(opcode, false, buffer.len() - HEADER_BYTES_MAX, &mut head);
    let start = HEADER_BYTES_MAX - head_len;
    buffer[start..HEADER_BYTES_MAX].copy_from_slice(&head[..head_len]);
    buffer.drain(..start);
    Ok(buffer)
}

/// The payload of a frame written by this module.
#[must_use]
pub fn payload_of(frame: &[u8]) -> &[u8] {
    let head_len = match frame.get(1).map(|b| b & 0x7f) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    };
    frame.get(head_len..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_the_shortest_form() {
        for (len, head) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 0xff, 0xff]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let frame = frame(Opcode::Binary, false, &vec![7; len]);
            assert_eq!(&frame[..head.len()], head);
            assert_eq!(payload_of(&frame), vec![7; len]);
            let same = message_with(Opcode::Binary, |out| {
                out.extend(vec![7; len]);
                Ok::<_, ()>(())
            });
            assert_eq!(same, Ok(frame));
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let frame = close(CloseCode::Policy, &"é".repeat(100));
        assert_eq!(frame.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }
}
