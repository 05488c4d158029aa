//! Prints the effective configuration as TOML.

use super::schema::Config;
use figment::value::{Dict, Empty, Value};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// `section.key` → value, with masked secrets and without unset keys.
pub(super) fn flatten(config: &Config) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    for (key, value) in sections(config) {
        match value {
            Value::Dict(_, section) => {
                for (inner, value) in section {
                    flat.insert(format!("{key}.{inner}"), value);
                }
            }
            value => {
                flat.insert(key, value);
            }
        }
    }
    flat.retain(|_, value| !matches!(value, Value::Empty(_, Empty::None | Empty::Unit)));
    flat
}

fn sections(config: &Config) -> Dict {
    // A path that is not UTF-8 cannot be configured, so serialisation does not fail. If it did, nothing would be
    // printed.
    Value::serialize(config).ok().and_then(Value::into_dict).unwrap_or_default()
}

pub(super) fn to_toml(config: &Config, origins: &BTreeMap<String, String>) -> String {
    let (tables, top): (Vec<_>, Vec<_>) =
        sections(config).into_iter().partition(|(_, value)| matches!(value, Value::Dict(..)));
    let mut out = String::new();
    let line = |out: &mut String, path: &str, key: &str, value: &Value| {
        let origin = origins.get(path).map_or("", String::as_str).replace(char::is_control, " ");
        // Writing to a String does not fail.
        let _ = match value {
            Value::Empty(..) => writeln!(out, "# {key} is not set"),
            value => writeln!(out, "{:<48} # {origin}", format!("{key} = {}", scalar(value))),
        };
    };
    for (key, value) in &top {
        line(&mut out, key, key, value);
    }
    for (name, table) in &tables {
        let _ = writeln!(out, "\n[{name}]");
        for (key, value) in table.as_dict().into_iter().flatten() {
            line(&mut out, &format!("{name}.{key}"), key, value);
        }
    }
    out
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Bool(_, value) => value.to_string(),
        Value::Num(_, number) => match number.to_u128_lossy() {
            Some(number) => number.to_string(),
            None => format!("{number:?}"),
        },
        Value::Array(_, items) => {
            format!("[{}]", items.iter().map(scalar).collect::<Vec<_>>().join(", "))
        }
        value => quoted(value.as_str().unwrap_or_default()),
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
