//! Masking (RFC 6455 §5.3): XOR with a four-byte key, resumable at any offset.

/// XORs `payload` with `key`, whose byte for `payload[0]` is `key[phase % 4]`; returns the phase for what follows.
pub fn apply(payload: &mut [u8], key: [u8; 4], phase: usize) -> usize {
    let rotated = [key[phase & 3], key[(phase + 1) & 3], key[(phase + 2) & 3], key[(phase + 3) & 3]];
    let word = u64::from_ne_bytes([
        rotated[0], rotated[1], rotated[2], rotated[3], rotated[0], rotated[1], rotated[2], rotated[3],
    ]);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for chunk in words {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(rotated.iter().cycle()) {
        *byte ^= key;
    }
    (phase + payload.len()) & 3
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_split_gives_the_same_bytes(
            data in proptest::collection::vec(any::<u8>(), 0..200),
            key: [u8; 4],
            cut in 0usize..200,
        ) {
            let expected: Vec<u8> = data.iter().enumerate().map(|(i, b)| b ^ key[i % 4]).collect();
            let cut = cut.min(data.len());
            let mut split = data;
            let (left, right) = split.split_at_mut(cut);
            let phase = apply(left, key, 0);
            apply(right, key, phase);
            prop_assert_eq!(split, expected);
        }
    }
}
