//! `veza.v1.json`: simd-json in (in place), `serde_json` out.

use super::value::{Value, ValueSeed};
use crate::limits::{COMMAND_VALUES_MAX, NESTING_MAX};
use serde::Serialize;
use serde::de::DeserializeSeed;
use simd_json::Buffers;
use std::cell::Cell;

/// Reusable buffers of the parser; one per shard.
#[derive(Default)]
pub struct JsonReader {
    buffers: Buffers,
}

impl JsonReader {
    /// Reads one document; unescapes text in place.
    ///
    /// # Errors
    /// The reason, for people: not JSON, too deep, too many values.
    pub fn read<'a>(&mut self, text: &'a mut [u8]) -> Result<Value<'a>, String> {
        check_shape(text)?;
        let mut document = simd_json::Deserializer::from_slice_with_buffers(text, &mut self.buffers)
            .map_err(|error| format!("The command is not valid JSON: {error}."))?;
        let values_left = Cell::new(0);
        ValueSeed::new(&values_left)
            .deserialize(&mut document)
            .map_err(|error| format!("The command is not valid: {error}."))
    }
}

/// Checks depth and number of values in the bytes, because the parser indexes the whole document before it reports
/// them.
fn check_shape(text: &[u8]) -> Result<(), String> {
    let (mut depth, mut values, mut in_text, mut escaped) = (0usize, 1usize, false, false);
    for byte in text {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'{' | b'[' => {
                depth += 1;
                values += 1;
                if depth > NESTING_MAX {
                    return Err(format!("The command is nested deeper than {NESTING_MAX} levels."));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' | b':' => values += 1,
            _ => {}
        }
        if values > COMMAND_VALUES_MAX {
            return Err(format!("The command has more than {COMMAND_VALUES_MAX} values."));
        }
    }
    Ok(())
}

/// Appends `value` as JSON.
///
/// # Errors
/// The serialiser's message; only a map with keys that are not text can cause it.
pub fn write(value: &impl Serialize, out: &mut Vec<u8>) -> Result<(), String> {
    serde_json::to_writer(out, value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        JsonReader::default().read(&mut text.as_bytes().to_vec()).map(|value| format!("{value:?}"))
    }

    #[test]
    fn shapes_are_bounded_before_parsing() {
        assert!(read(&format!("{}{}", "[".repeat(17), "]".repeat(17))).unwrap_err().contains("16 levels"));
        assert!(read(&format!("{}{}", "[".repeat(16), "]".repeat(16))).is_ok());
        assert!(read(&"[".repeat(100_000)).unwrap_err().contains("16 levels"));
        assert!(read(&format!("[{}0]", "0,".repeat(5_000))).unwrap_err().contains("4096 values"));
        assert!(read("\"[[[[[[[[[[[[[[[[[[[[[[ \\\" [[\"").is_ok());
    }

    #[test]
    fn invalid_json_is_refused_with_a_reason() {
        for bad in ["", "{", "{\"a\"", "nul", "{\"a\":1}x", "\u{1}"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
