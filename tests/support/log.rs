//! The promise about order, checked: in each conversation the numbered events come as n + 1, n + 2, n + 3 …

use serde_json::Value;
use std::collections::BTreeMap;

/// Events that have a place in their conversation's log.
const NUMBERED: &[&str] = &[
    "message_created",
    "member_joined",
    "member_left",
    "member_updated",
    "conversation_created",
    "conversation_updated",
];

/// What one client has seen.
#[derive(Clone, Default, Debug)]
pub struct Log {
    last: BTreeMap<String, i64>,
}

impl Log {
    /// A client that has seen everything up to these.
    pub fn after<'a>(cursors: impl IntoIterator<Item = (&'a str, i64)>) -> Self {
        Self { last: cursors.into_iter().map(|(id, seq)| (id.to_owned(), seq)).collect() }
    }

    /// The last seq of a conversation.
    pub fn last(&self, conversation: &str) -> i64 {
        self.last.get(conversation).copied().unwrap_or(0)
    }

    /// All conversations and their last seq: what `resume` takes.
    pub fn cursors(&self) -> Value {
        self.last.iter().map(|(id, seq)| (id.clone(), Value::from(*seq))).collect::<serde_json::Map<_, _>>().into()
    }

    /// Takes note of an event; fails when it is not the next one of its conversation. Whether it was numbered.
    #[track_caller]
    pub fn saw(&mut self, event: &Value) -> bool {
        let kind = event["type"].as_str().unwrap();
        if !NUMBERED.contains(&kind) {
            return false;
        }
        let data = &event["data"];
        let (Some(id), Some(seq)) = (data["conversation_id"].as_str(), data["seq"].as_i64()) else {
            panic!("{kind} without conversation_id and seq: {event}");
        };
        let last = self.last.entry(id.to_owned()).or_default();
        assert_eq!(seq, *last + 1, "{id}: after {last} comes {seq}, a gap or a repetition: {event}");
        *last = seq;
        true
    }
}
