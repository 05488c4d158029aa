//! Decides by `seq` whether an event is shown. Pure.
//!
//! Every change of a conversation has the next seq, without gaps. An event is shown exactly if its seq follows the last
//! one shown. A smaller seq was shown before. A larger seq means that events are missing and must be replayed first.

use serde_json::Value;

/// Events that have no seq, or one that is not their own position in the log.
const UNNUMBERED: &[&str] = &[
    "welcome",
    "caught_up",
    "reset",
    "lagging",
    "going_away",
    "mention",
    "thread_updated",
    "read_updated",
    "typing",
    "presence",
];

/// What to do with an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Show it; it counts as shown.
    Show,
    /// It was shown before.
    Old,
    /// Events before it are missing.
    Gap,
    /// It is not part of this conversation's log.
    Aside,
}

/// How far the log of one conversation has been shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stream {
    conversation: String,
    seen: i64,
}

impl Stream {
    /// Starts after `seen`.
    pub fn after(conversation: &str, seen: i64) -> Self {
        Self { conversation: conversation.to_owned(), seen }
    }

    /// The last seq shown.
    pub fn seen(&self) -> i64 {
        self.seen
    }

    /// Continues after `seen`: the messages up to there were read from the history.
    pub fn jump(&mut self, seen: i64) {
        self.seen = seen;
    }

    /// Decides about an event and remembers it.
    pub fn saw(&mut self, event: &Value) -> Step {
        let kind = event["type"].as_str().unwrap_or_default();
        let data = &event["data"];
        let here = data["conversation_id"] == *self.conversation;
        let Some(seq) = data["seq"].as_i64().filter(|_| here && !UNNUMBERED.contains(&kind)) else {
            return Step::Aside;
        };
        if seq <= self.seen {
            Step::Old
        } else if seq == self.seen + 1 {
            self.seen = seq;
            Step::Show
        } else {
            Step::Gap
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(kind: &str, conversation: &str, seq: i64) -> Value {
        json!({"type": kind, "data": {"conversation_id": conversation, "seq": seq}})
    }

    #[test]
    fn shows_each_seq_once_and_in_order() {
        let mut stream = Stream::after("room_6", 4);
        assert_eq!(stream.saw(&event("message_created", "room_6", 4)), Step::Old);
        assert_eq!(stream.saw(&event("message_created", "room_6", 6)), Step::Gap);
        assert_eq!(stream.saw(&event("message_created", "room_6", 5)), Step::Show);
        assert_eq!(stream.saw(&event("message_created", "room_6", 5)), Step::Old);
        assert_eq!(stream.saw(&event("something_new", "room_6", 6)), Step::Show, "numbered, so it counts");
        assert_eq!(stream.seen(), 6);
    }

    #[test]
    fn ignores_events_outside_the_log() {
        let mut stream = Stream::after("room_6", 4);
        for kind in UNNUMBERED {
            assert_eq!(stream.saw(&event(kind, "room_6", 5)), Step::Aside, "{kind}");
        }
        assert_eq!(stream.saw(&event("message_created", "room_10", 5)), Step::Aside);
        assert_eq!(stream.saw(&json!({"type": "ack", "data": {}})), Step::Aside);
        assert_eq!(stream.seen(), 4);
    }
}
