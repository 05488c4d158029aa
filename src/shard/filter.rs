//! The content filter on the way of a text to its conversation.
//!
//! 1. A text that matches no rule goes on at once. That is every ordinary text.
//! 2. Otherwise the shard submits `filter_text` to the conversation's owner. PostgreSQL knows the author's role, picks
//!    the first rule that does not exempt it, records the match, and keeps the text or mutes the author.
//! 3. Its answer says how to go on: the text is sent, or refused with `filtered`.
//!
//! So a crash between the steps sends no text that a rule refuses, and loses none that was acknowledged.

use super::Shard;
use super::requests::{Filtering, Origin, Pending, PendingCommand};
use super::world::World;
use crate::chat::filter::compiled::{Context, Field};
use crate::chat::filter::rule::{FilterAction, RuleHead};
use crate::chat::filter::{RuleSet, SharedRepeats, remember};
use crate::error::{ErrorCode, Refusal};
use crate::ids::{ConversationId, UserId};
use crate::mesh::frame::{Approval, ApprovedText, Change};
use crate::wire::command::Arguments;
use serde_json::{Value, json};
use std::sync::Arc;

/// Texts of one change, each with its place.
fn texts(change: &Change) -> [Option<(Field, &str)>; 2] {
    match change {
        Change::Message { content, .. } => [Some((Field::Message, content)), None],
        Change::Other { arguments, .. } => {
            let text = |key: &str| arguments.get(key).and_then(Value::as_str);
            match text("content") {
                Some(content) => [Some((Field::Message, content)), None],
                None => [
                    text("name").map(|name| (Field::RoomName, name)),
                    text("description").map(|description| (Field::Description, description)),
                ],
            }
        }
    }
}

impl<W: World> Shard<W> {
    /// The rules are replaced, unless these are older.
    pub(super) fn use_filter_rules(&mut self, rules: Arc<RuleSet>) {
        if rules.version >= self.filter.version {
            self.filter = rules;
        }
    }

    /// Sends a change to its owner if its texts may pass.
    pub(super) fn send_filtered(
        &mut self,
        asked: PendingCommand,
        user: UserId,
        conversation: Option<ConversationId>,
        change: Change,
    ) {
        let hits = self.filter_hits(&asked, user, conversation, &change);
        if hits.is_empty() {
            return self.send_to_owner(asked, user, conversation, change);
        }
        let arguments = record_of(&hits, &change, self.requests.mutation_id());
        let record = Change::Other {
            kind: "filter_text",
            mutation_id: self.requests.mutation_id(),
            arguments: arguments.into(),
        };
        let (origin, received_at) = (asked.origin.connection(), asked.at);
        let filtering = Box::new(Filtering { asked, user, conversation, change, hits });
        self.submit_change(Pending::Filter(filtering), (user, origin, received_at), conversation, record);
    }

    fn filter_hits(
        &mut self,
        asked: &PendingCommand,
        user: UserId,
        conversation: Option<ConversationId>,
        change: &Change,
    ) -> Vec<Arc<RuleHead>> {
        if !self.settings.content_filtering {
            return Vec::new();
        }
        let rules = Arc::clone(&self.filter);
        let now_s = self.now_ms / 1_000;
        let mut hits: Vec<Arc<RuleHead>> = Vec::new();
        for (field, text) in texts(change).into_iter().flatten() {
            let remembers = field == Field::Message && conversation.is_some_and(|id| rules.remembers(id));
            let shared = remembers.then(|| self.repeats_of(asked, user)).flatten();
            let memory = shared.as_ref().map(|shared| &**shared.get_or_init(Box::default));
            let found = rules.check(text, &Context { field, conversation, memory, now_s }).hits;
            hits.extend(
                found.into_iter().filter(|hit| !hits.iter().any(|known| Arc::ptr_eq(known, hit))).collect::<Vec<_>>(),
            );
            if let (Some(memory), Some(conversation)) = (memory, conversation) {
                remember(memory, text, conversation, now_s);
            }
        }
        hits.sort_by(|a, b| b.action.cmp(&a.action));
        hits
    }

    fn repeats_of(&mut self, asked: &PendingCommand, user: UserId) -> Option<SharedRepeats> {
        match &asked.origin {
            Origin::Connection(conn) => self.connections.session(*conn).map(|session| Arc::clone(&session.repeats)),
            Origin::Http(_) => Some(self.directory.users.repeats(user)),
        }
    }

    /// PostgreSQL has decided about a text.
    pub(super) fn filter_answered(&mut self, filtering: Filtering, decided: Result<Value, Box<Refusal>>) {
        let Filtering { asked, user, conversation, change, hits } = filtering;
        let decided = match decided {
            Ok(decided) => decided,
            Err(refusal) => return self.refuse(asked, &refusal),
        };
        let action = decided["action"].as_str().unwrap_or("refuse");
        let rule = decided["rule"].as_str().unwrap_or_default();
        let action = FilterAction::ALL.into_iter().find(|known| known.as_str() == action);
        if let (Some(action), false) = (action, decided["is_repeat"] == true)
            && let Some(hit) = hits.iter().find(|hit| hit.id == rule)
        {
            hit.tally.acted(action);
        }
        match action {
            // No rule applies to the author's role, or a moderator has approved it.
            None | Some(FilterAction::Flag) => self.send_to_owner(asked, user, conversation, change),
            Some(action) => {
                let mute_ms = hits.iter().find(|hit| hit.id == rule).map_or(0, |hit| hit.mute_s as u64 * 1_000);
                self.refuse(asked, &refusal(action, rule, mute_ms));
            }
        }
    }

    /// Sends a held text that a moderator has approved, as its author.
    pub(super) fn send_approved(&mut self, approval: Approval) {
        let Approval { author, conversation, text, reply } = approval;
        let change = match text {
            ApprovedText::Message { content, message_type, parent, key } => {
                let key_is_clients = !key.starts_with('\u{1}');
                Change::Message { content, message_type, parent, key, key_is_clients }
            }
            // The time to edit has passed or not when its author sent it.
            ApprovedText::Edit { message, content } => Change::Other {
                kind: "edit_message",
                mutation_id: self.requests.mutation_id(),
                arguments: json!({"message_id": message, "content": content, "window_s": 0}),
            },
        };
        let asked =
            PendingCommand { origin: Origin::Http(reply), id: None, command: None, at: self.now, holds_slot: false };
        match self.may_begin() {
            Ok(()) => self.send_to_owner(asked, author, Some(conversation), change),
            Err(refusal) => self.refuse(asked, &refusal),
        }
    }
}

/// What `mutate_filter_text` needs.
fn record_of(hits: &[Arc<RuleHead>], change: &Change, unique: i64) -> Arguments {
    let hits: Vec<Value> = hits
        .iter()
        .map(|hit| {
            json!({"rule": hit.id, "is_server_rule": hit.conversation.is_none(), "action": hit.action,
                   "exempt_from": hit.exempt_from, "mute_s": hit.mute_s})
        })
        .collect();
    let mut record = Arguments::new();
    record.insert("hits".to_owned(), hits.into());
    let of_message = match change {
        Change::Message { content, message_type, parent, key, .. } => {
            Some(json!({"text": content, "key": key, "message_type": message_type, "parent_message_id": parent}))
        }
        Change::Other { arguments, .. } => arguments.get("content").map(|content| {
            // U+0001 keeps it apart from every key that a client may give.
            json!({"text": content, "key": format!("\u{1}edit {unique:016x}"), "message_type": "text",
                   "edited_message_id": arguments.get("message_id")})
        }),
    };
    if let Some(Value::Object(fields)) = of_message {
        record.extend(fields);
    }
    record
}

/// What the author of a refused text reads.
fn refusal(action: FilterAction, rule: &str, mute_ms: u64) -> Refusal {
    let (message, held) = match action {
        FilterAction::Hold => (
            format!("The rule {rule} holds this text. A moderator decides whether it is sent. Do not send it again."),
            true,
        ),
        FilterAction::Slow | FilterAction::Mute => (
            format!(
                "The rule {rule} does not allow this text, and you are muted for a while. Wait until the mute ends."
            ),
            false,
        ),
        FilterAction::Flag | FilterAction::Refuse => {
            (format!("The rule {rule} does not allow this text. Change it, or ask a moderator."), false)
        }
    };
    let details = if held { json!({"rule": rule, "held": true}) } else { json!({"rule": rule}) };
    let refusal = Refusal::new(ErrorCode::Filtered, message).with_details(details);
    match action {
        FilterAction::Slow | FilterAction::Mute if mute_ms > 0 => refusal.retry_after(mute_ms),
        _ => refusal,
    }
}
