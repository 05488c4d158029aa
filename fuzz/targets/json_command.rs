//! Commands in JSON. The parser accepts nothing that `serde_json` refuses, every text in the tree is UTF-8, and every
//! refusal has a reason.

#![no_main]

use chat_server::limits::Limits;
use chat_server::wire::Format;
use chat_server::wire::command::{Command, parse};
use chat_server::wire::json::JsonReader;
use chat_server::wire::value::Value;
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use std::cell::RefCell;

thread_local! {
    static READER: RefCell<JsonReader> = RefCell::default();
}

fn is_sound(value: &Value<'_>) -> bool {
    match value {
        Value::Text(text) => std::str::from_utf8(text.as_bytes()).is_ok(),
        Value::List(list) => list.iter().all(is_sound),
        Value::Map(map) => {
            map.iter().all(|(key, value)| std::str::from_utf8(key.as_bytes()).is_ok() && is_sound(value))
        }
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => true,
    }
}

fuzz_target!(|data: &[u8]| {
    READER.with_borrow_mut(|reader| {
        if let Ok(value) = reader.read(&mut data.to_vec()) {
            assert!(is_sound(&value));
            let checked = serde_json::from_slice::<IgnoredAny>(data);
            assert!(checked.is_ok(), "accepted, but {checked:?}");
        }
        let mut bytes = data.to_vec();
        match parse(&mut bytes, Format::Json, reader, &Limits::default()).command {
            Ok(command) => assert!(usize::from(command.id().0) < Command::NAMES.len()),
            Err(refusal) => assert!(!refusal.to_string().is_empty()),
        }
    });
});
