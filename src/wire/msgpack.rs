//! `veza.v1.msgpack`: the same maps and keys as JSON, integers as integers.

use super::value::{Value, ValueSeed};
use serde::de::DeserializeSeed;
use serde::{Deserialize, Serialize};
use std::cell::Cell;

/// Reads one value, which must fill `bytes`; text borrows from it.
///
/// # Errors
/// The reason, for people.
pub fn read(bytes: &[u8]) -> Result<Value<'_>, String> {
    let mut document = rmp_serde::Deserializer::from_read_ref(bytes);
    let values_left = Cell::new(0);
    let value = ValueSeed::new(&values_left)
        .deserialize(&mut document)
        .map_err(|error| format!("The command is not valid MessagePack: {error}."))?;
    // A second value would be a command that is silently lost. Reading a unit consumes one marker and does not descend,
    // so only the end of the input yields no marker.
    match <()>::deserialize(&mut document) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(value),
        _ => Err("More bytes follow the MessagePack value.".to_owned()),
    }
}

/// Appends `value` as MessagePack, structures as maps.
///
/// # Errors
/// The serialiser's message.
pub fn write(value: &impl Serialize, out: &mut Vec<u8>) -> Result<(), String> {
    let mut serializer = rmp_serde::Serializer::new(out).with_struct_map();
    value.serialize(&mut serializer).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn declared_lengths_allocate_nothing() {
        assert!(read(&[0xdd, 0xff, 0xff, 0xff, 0xff]).is_err()); // array32 of 2^32−1
        assert!(read(&[0xdf, 0xff, 0xff, 0xff, 0xff]).is_err()); // map32
        assert!(read(&[0xdb, 0xff, 0xff, 0xff, 0xff, b'a']).is_err()); // str32
        assert!(read(&[0x91; 100]).unwrap_err().contains("16 levels"));
        assert!(read(&[0xc0, 0xc0]).unwrap_err().contains("More bytes follow"));
        assert!(read(&[0x81, 0x01, 0x02]).is_err()); // a key that is not text
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
