//! Incremental UTF-8 validation that fails on the first byte that cannot be part of valid text (RFC 3629).

/// The position in a character where the last chunk ended.
#[derive(Clone, Copy, Default, Debug)]
pub struct Utf8Validator {
    pending: [u8; 4],
    pending_len: u8,
}

/// The text cannot be valid UTF-8, whatever follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidUtf8;

impl Utf8Validator {
    /// Validates the next chunk of the text.
    ///
    /// # Errors
    /// [`InvalidUtf8`] as soon as no continuation can make the text valid.
    pub fn feed(&mut self, mut chunk: &[u8]) -> Result<(), InvalidUtf8> {
        while self.pending_len > 0 {
            let Some((&byte, rest)) = chunk.split_first() else { return Ok(()) };
            chunk = rest;
            let len = usize::from(self.pending_len);
            self.pending[len] = byte; // pending_len < 4: a complete or impossible character never stays pending
            match std::str::from_utf8(&self.pending[..=len]) {
                Ok(_) => self.pending_len = 0,
                Err(error) if error.error_len().is_none() => self.pending_len += 1,
                Err(_) => return Err(InvalidUtf8),
            }
        }
        match simdutf8::compat::from_utf8(chunk) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_none() => {
                let tail = &chunk[error.valid_up_to()..];
                self.pending[..tail.len()].copy_from_slice(tail);
                self.pending_len = tail.len() as u8;
                Ok(())
            }
            Err(_) => Err(InvalidUtf8),
        }
    }

    /// Whether the text ends at a character boundary; resets the state.
    pub fn finish(&mut self) -> bool {
        std::mem::take(&mut self.pending_len) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fails_at_the_first_impossible_byte() {
        let mut validator = Utf8Validator::default();
        assert_eq!(validator.feed(&[0xf4]), Ok(()));
        assert_eq!(validator.feed(&[0x90]), Err(InvalidUtf8)); // above U+10FFFF, known after two bytes
        let mut validator = Utf8Validator::default();
        assert_eq!(validator.feed(b"\xce\xba\xed"), Ok(()));
        assert_eq!(validator.feed(&[0xa0]), Err(InvalidUtf8)); // surrogate
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library_at_every_split(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..24),
                any::<String>().prop_map(String::into_bytes),
            ],
            step in 1usize..5,
        ) {
            let mut validator = Utf8Validator::default();
            let fed = bytes.chunks(step).try_for_each(|chunk| validator.feed(chunk));
            prop_assert_eq!(fed.is_ok() && validator.finish(), std::str::from_utf8(&bytes).is_ok());
        }
    }
}
