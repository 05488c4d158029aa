//! Checks the order of events: in each conversation, the events with a seq arrive as n + 1, n + 2, n + 3 …

use serde_json::Value;
use std::collections::BTreeMap;

/// Events that have a seq in the log of their conversation.
const NUMBERED: &[&str] = &[
    "message_created",
    "member_joined",
    "member_left",
    "member_updated",
    "conversation_created",
    "conversation_updated",
];

/// The last seq of each conversation that one client has received.
#[derive(Clone, Default, Debug)]
pub struct Log {
    last: BTreeMap<String, i64>,
}

impl Log {
    /// A client that has received everything up to these seqs.
    pub fn after<'a>(cursors: impl IntoIterator<Item = (&'a str, i64)>) -> Self {
        Self { last: cursors.into_iter().map(|(id, seq)| (id.to_owned(), seq)).collect() }
    }

    /// The last seq of a conversation, or 0.
    pub fn last(&self, conversation: &str) -> i64 {
        self.last.get(conversation).copied().unwrap_or(0)
    }

    /// All conversations and their last seq, as the cursors of `resume`.
    pub fn cursors(&self) -> Value {
        self.last.iter().map(|(id, seq)| (id.clone(), Value::from(*seq))).collect::<serde_json::Map<_, _>>().into()
    }

    /// Records an event. Fails when it is not the next one of its conversation. Returns whether it has a seq.
    #[track_caller]
    pub fn record(&mut self, event: &Value) -> bool {
        let kind = event["type"].as_str().unwrap();
        if !NUMBERED.contains(&kind) {
            return false;
        }
        let data = &event["data"];
        let (Some(id), Some(seq)) = (data["conversation_id"].as_str(), data["seq"].as_i64()) else {
            panic!("{kind} without conversation_id and seq: {event}");
        };
        let last = self.last.entry(id.to_owned()).or_default();
        assert_eq!(seq, *last + 1, "{id}: {seq} after {last} is a gap or a repetition: {event}");
        *last = seq;
        true
    }
}
