//! Commands in MessagePack: every refusal has a reason, and a tree has no more values than a command may have.

#![no_main]

use chat_server::limits::{COMMAND_VALUES_MAX, Limits, NESTING_MAX};
use chat_server::wire::Format;
use chat_server::wire::command::{Command, parse};
use chat_server::wire::json::JsonReader;
use chat_server::wire::msgpack;
use chat_server::wire::value::Value;
use libfuzzer_sys::fuzz_target;

/// The number of values, and the depth.
fn size(value: &Value<'_>) -> (usize, usize) {
    let of_all = |sizes: &mut dyn Iterator<Item = (usize, usize)>| {
        sizes.fold((1, 1), |(count, depth), (n, d)| (count + n, depth.max(d + 1)))
    };
    match value {
        Value::List(list) => of_all(&mut list.iter().map(size)),
        Value::Map(map) => of_all(&mut map.iter().map(|(_, value)| size(value))),
        Value::Text(text) => (1, usize::from(std::str::from_utf8(text.as_bytes()).is_err())),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => (1, 0),
    }
}

fuzz_target!(|data: &[u8]| {
    if let Ok(value) = msgpack::read(data) {
        let (count, depth) = size(&value);
        assert!(count <= COMMAND_VALUES_MAX && depth <= NESTING_MAX + 1, "{count} values, {depth} levels");
    }
    let mut bytes = data.to_vec();
    match parse(&mut bytes, Format::MessagePack, &mut JsonReader::default(), &Limits::default()).command {
        Ok(command) => assert!(usize::from(command.id().0) < Command::NAMES.len()),
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
});
