//! Whether a frame may be sent to a client: the check of everything that a shard sends, at the moment it sends it.
//!
//! The store says what is true, and [`crate::removals`] what the sending shard knows of it. An event of a log is
//! checked against the log. A frame without a `seq` may be one that was on its way when its reader was removed, so it
//! is a fault only if the shard has received the removal.

use crate::Verdicts;
use crate::frames::split_frame;
use crate::removals::{Removal, Removals};
use crate::store::Store;
use chat_server::ids::{ConversationId, ConversationPrefix, ShardId, UserId};
use serde_json::Value;
use std::collections::HashMap;

/// Where frames go.
pub struct Recipient<'a> {
    /// The user of the connection.
    pub user: UserId,
    /// The shard that sends.
    pub shard: ShardId,
    /// Signals of typing in direct conversations that the connection was sent, by who types where.
    pub typings: &'a mut HashMap<(UserId, ConversationId), u64>,
}

/// Checks frames on their way to a client.
pub fn check_permitted(to: Recipient<'_>, mut bytes: &[u8], store: &Store, removals: &Removals, verdicts: &Verdicts) {
    let Recipient { user, shard, typings } = to;
    while let Some((opcode, payload, rest)) = split_frame(bytes) {
        bytes = rest;
        if opcode != 1 {
            continue;
        }
        let Ok(frame) = serde_json::from_slice::<Value>(payload) else { continue };
        let (kind, data) = (frame["type"].as_str().unwrap_or_default(), &frame["data"]);
        let conversation = data["conversation_id"].as_str().and_then(ConversationId::parse);
        let about = data["user_id"].as_i64().map(UserId);
        match (kind, conversation, about) {
            ("ack", ..) => {
                let shown = data["presence"].as_array().into_iter().flatten();
                for seen in shown.filter_map(|shown| shown["user_id"].as_i64()).map(UserId) {
                    verdicts.check(!is_hidden(store, removals, shard, user, seen, true), || {
                        format!(
                            "user {} got an answer with the presence of user {}, whom they may not see",
                            user.0, seen.0
                        )
                    });
                }
            }
            ("error" | "welcome" | "caught_up" | "reset" | "lagging", ..) => {}
            ("presence", _, Some(seen)) => {
                verdicts.check(!is_hidden(store, removals, shard, user, seen, false), || {
                    format!("user {} was sent the presence of user {}, whom they may not see", user.0, seen.0)
                });
            }
            ("typing" | "read_updated", Some(conversation), Some(about)) => {
                let is_known = store
                    .left_at(user, conversation)
                    .is_none_or(|seq| removals.knows_departure(shard, user, conversation, seq));
                verdicts.check(store.is_member(user, conversation) || !is_known, || {
                    format!("user {} was sent {kind} of {conversation} after they had left it", user.0)
                });
                let is_known = kind == "typing" && removals.blocks(shard, user, about) >= store.blocks(user, about);
                verdicts.check(!store.is_blocked(user, about) || !is_known, || {
                    format!(
                        "user {} was sent that user {} types, although there is a block between them",
                        user.0, about.0
                    )
                });
                if kind == "typing" && conversation.prefix() == ConversationPrefix::Direct {
                    let sent = typings.entry((about, conversation)).or_default();
                    *sent += 1;
                    let permitted = store.typings(about, conversation);
                    verdicts.check(*sent <= permitted, || {
                        format!(
                            "user {} typed in {conversation} {sent} times, and may have done so {permitted} times",
                            about.0
                        )
                    });
                }
            }
            (_, Some(conversation), _) if data["seq"].is_i64() => {
                let seq = data["seq"].as_i64().unwrap_or_default();
                verdicts.check(store.may_receive(user, conversation, seq), || {
                    format!("user {} was sent {kind} {seq} of {conversation} after they had left it", user.0)
                });
            }
            _ => verdicts.broken(format!("user {} was sent a frame that nothing checks: {frame}", user.0)),
        }
    }
}

/// Whether `watcher` may not see the user, and the shard knows it. `at_once`: a departure counts before the re-check of
/// the watches.
fn is_hidden(store: &Store, removals: &Removals, shard: ShardId, watcher: UserId, user: UserId, at_once: bool) -> bool {
    if store.may_see(watcher, user) {
        return false;
    }
    match store.hidden_by(watcher, user) {
        Some(Removal::Block(one, other)) => removals.blocks(shard, one, other) >= store.blocks(one, other),
        Some(Removal::Departure { user, conversation, seq }) if at_once => {
            removals.knows_departure(shard, user, conversation, seq)
        }
        Some(Removal::Departure { user, conversation, seq }) => {
            removals.has_checked_watches(shard, user, conversation, seq)
        }
        None => true,
    }
}
