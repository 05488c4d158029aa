//! What of a conversation has been shown: arithmetic on `seq`. Pure.
//!
//! Every change of a conversation has the next number, without gaps. So an event is shown exactly when it is the one
//! after the last one shown; a smaller number was shown already, and a larger one means that something is missing and
//! has to be asked for before it.

use serde_json::Value;

/// Events that carry a `seq` and have no place in the log, or none at all.
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
    /// Show it; it is noted as shown.
    Show,
    /// It was shown.
    Old,
    /// Something before it has not been.
    Gap,
    /// It is not part of this conversation's log.
    Aside,
}

/// One conversation's log as far as it was shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stream {
    conversation: String,
    seen: i64,
}

impl Stream {
    /// Everything up to `seen` counts as shown.
    pub fn after(conversation: &str, seen: i64) -> Self {
        Self { conversation: conversation.to_owned(), seen }
    }

    /// The last number shown.
    pub fn seen(&self) -> i64 {
        self.seen
    }

    /// Everything up to there counts as shown, whatever was before: the log was read in another way.
    pub fn jump(&mut self, seen: i64) {
        self.seen = seen;
    }

    /// Takes note of an event.
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
    fn each_number_is_shown_once_and_in_order() {
        let mut stream = Stream::after("room_6", 4);
        assert_eq!(stream.saw(&event("message_created", "room_6", 4)), Step::Old);
        assert_eq!(stream.saw(&event("message_created", "room_6", 6)), Step::Gap);
        assert_eq!(stream.saw(&event("message_created", "room_6", 5)), Step::Show);
        assert_eq!(stream.saw(&event("message_created", "room_6", 5)), Step::Old);
        assert_eq!(stream.saw(&event("something_new", "room_6", 6)), Step::Show, "numbered, so it counts");
        assert_eq!(stream.seen(), 6);
    }

    #[test]
    fn what_is_not_in_the_log_moves_nothing() {
        let mut stream = Stream::after("room_6", 4);
        for kind in UNNUMBERED {
            assert_eq!(stream.saw(&event(kind, "room_6", 5)), Step::Aside, "{kind}");
        }
        assert_eq!(stream.saw(&event("message_created", "room_10", 5)), Step::Aside);
        assert_eq!(stream.saw(&json!({"type": "ack", "data": {}})), Step::Aside);
        assert_eq!(stream.seen(), 4);
    }
}
