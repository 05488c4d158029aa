//! What committed runs and answered reads show to the detectors of suspicious activity (`mesh/activity.rs`).
//!
//! It runs after the commit, on values that the I/O shard has anyway: no query, no lock. An ordinary message costs one
//! look at a bit.

use crate::ids::UserId;
use crate::mesh::activity::{Activity, TextActivity, compared};
use crate::mesh::frame::{Answer, Change, Mutation, Query, Verdict};
use serde_json::Value;

/// A run was committed, with these verdicts.
pub(super) fn of_run(activity: &Activity, run: &[Box<Mutation>], verdicts: &[Verdict]) {
    for (mutation, verdict) in run.iter().zip(verdicts) {
        match (&mutation.change, verdict) {
            (Change::Message { content, .. }, Verdict::Message(message)) if !message.duplicate => {
                let unique = message.record.message_id.0 as u64;
                mentions(activity, mutation.actor, content, &message.record.mentions, unique);
                passed(activity, mutation.actor, content);
            }
            (Change::Other { kind: "filter_text", arguments, .. }, Verdict::Other(other)) => {
                filtered(activity, mutation.actor, arguments, &other.result);
            }
            (Change::Other { kind: "edit_message", arguments, mutation_id }, Verdict::Other(other)) => {
                let content = arguments["content"].as_str().unwrap_or_default();
                for notice in other.notices.iter().filter(|notice| notice.kind == "mention") {
                    mentions(activity, mutation.actor, content, &notice.users, *mutation_id as u64);
                }
                passed(activity, mutation.actor, content);
            }
            _ => {}
        }
    }
}

/// More people than signs: one of them stands for the whole conversation.
fn mentions(activity: &Activity, author: UserId, content: &str, people: &[UserId], message: u64) {
    if people.is_empty() {
        return;
    }
    let signs = content.bytes().filter(|byte| *byte == b'@').count();
    activity.text(if people.len() > signs {
        TextActivity::MentionedAll { author, message }
    } else {
        TextActivity::Mentioned { author, people: people.to_vec() }
    });
}

fn passed(activity: &Activity, author: UserId, content: &str) {
    if activity.is_suspect(author) {
        activity.text(TextActivity::Passed { author, text: compared(content) });
    }
}

/// Only rules of the server count. The rules of a conversation are its administrators': they could refuse everything
/// that somebody writes there.
fn filtered(activity: &Activity, author: UserId, arguments: &Value, result: &Value) {
    let action = result["action"].as_str().unwrap_or_default();
    let refuses = ["hold", "refuse", "slow", "mute"].contains(&action);
    let rule = &result["rule"];
    let is_server_rule = || {
        let hits = arguments["hits"].as_array();
        let hit = hits.and_then(|hits| hits.iter().find(|hit| hit["rule"] == *rule));
        hit.is_some_and(|hit| hit["is_server_rule"] == true)
    };
    if refuses && result["is_repeat"] != true && is_server_rule() {
        let text = compared(arguments["text"].as_str().unwrap_or_default());
        activity.text(TextActivity::Refused { author, text });
    }
}

/// A read was answered. Pages of the log count while there are more: a client that returns reads the last one only.
pub(super) fn of_read(activity: &Activity, user: UserId, query: &Query, answer: &Answer) {
    let reads = match (query, answer) {
        (_, Answer::Refused(_)) => false,
        (_, Answer::Log(page)) => !page.complete,
        (Query::OpenSession { .. } | Query::Heads(_) | Query::Head(_) | Query::Typing(_), _)
        | (_, Answer::Located(_)) => false,
        _ => true,
    };
    if reads {
        activity.read(user, query.cost());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ANN: UserId = UserId(5);

    #[test]
    fn tells_mentions_of_people_from_those_of_a_conversation() {
        let activity = Activity::default();
        mentions(&activity, ANN, "hello", &[], 1);
        assert_eq!(activity.next_text(), None);
        mentions(&activity, ANN, "@bob and @eve", &[UserId(6), UserId(7)], 1);
        let people = vec![UserId(6), UserId(7)];
        assert_eq!(activity.next_text(), Some(TextActivity::Mentioned { author: ANN, people }));
        mentions(&activity, ANN, "@room", &[UserId(6), UserId(7)], 9);
        assert_eq!(activity.next_text(), Some(TextActivity::MentionedAll { author: ANN, message: 9 }));
    }

    #[test]
    fn rules_of_a_conversation_make_nobody_suspect() {
        let activity = Activity::default();
        let arguments = json!({"text": "spam", "hits": [
            {"rule": "room", "is_server_rule": false}, {"rule": "server", "is_server_rule": true}]});
        for result in [
            json!({"action": "refuse", "rule": "room"}),
            json!({"action": "flag", "rule": "server"}),
            json!({"action": "pass"}),
            json!({"action": "hold", "rule": "server", "is_repeat": true}),
        ] {
            filtered(&activity, ANN, &arguments, &result);
        }
        passed(&activity, ANN, "anything");
        assert_eq!(activity.next_text(), None);
        filtered(&activity, ANN, &arguments, &json!({"action": "refuse", "rule": "server"}));
        passed(&activity, ANN, "anything");
        assert!(matches!(activity.next_text(), Some(TextActivity::Refused { .. })));
        assert!(matches!(activity.next_text(), Some(TextActivity::Passed { .. })));
    }
}
