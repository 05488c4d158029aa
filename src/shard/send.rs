//! Mutations on their way to the conversation's owner: budget, filter, key.

use super::Shard;
use super::filter;
use super::permissions;
use super::rate_limits::Budget;
use super::refusals::{full_lane, input_waits, too_many_reads};
use super::requests::{Filtering, Locating, Origin, Pending, PendingCommand, SentBy};
use super::world::{Clock, World};
use crate::chat::filter::action::FilterAction;
use crate::chat::filter::compiled::{Context, Field};
use crate::chat::filter::rule::RuleHead;
use crate::chat::filter::written::checked_texts;
use crate::chat::filter::{SharedRepeats, remember};
use crate::error::{ErrorCode, Refusal};
use crate::ids::{ConnId, ConversationId, FileId, MessageId, UserId};
use crate::limits::{COMMIT_DEADLINE_MS, Feature};
use crate::mesh::asked::{Announcement, Approval, ApprovedText};
use crate::mesh::frame::{Change, Mutation, Query, Request};
use crate::planted::{Fault, is_planted};
use crate::text::{self, Shape};
use crate::wire::command::changes::{CHANGES, Meter};
use crate::wire::command::{Arguments, ConversationRef};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A message as its sender gave it.
pub(super) struct NewMessage<'a> {
    pub(super) conversation: ConversationId,
    pub(super) content: Cow<'a, str>,
    pub(super) parent: Option<MessageId>,
    pub(super) message_type: &'static str,
    pub(super) client_message_id: Option<Cow<'a, str>>,
    pub(super) files: Vec<FileId>,
}

/// Who sends a change.
struct ChangeSender {
    user: UserId,
    sent_by: SentBy,
    /// The requesting connection.
    connection: Option<ConnId>,
    received_at: Instant,
}

impl ChangeSender {
    fn of(asked: &PendingCommand, user: UserId) -> Self {
        let (connection, received_at) = (asked.origin.connection(), asked.at);
        Self { user, sent_by: asked.sent_by.clone(), connection, received_at }
    }
}

impl<W: World> Shard<W> {
    pub(super) fn send_message(&mut self, asked: PendingCommand, user: UserId, message: NewMessage<'_>) {
        let permitted = self
            .may_begin()
            .and_then(|()| self.may_use(message.parent.map(|_| Feature::MessageThreads)))
            .and_then(|()| self.may_use(message.files.first().map(|_| Feature::FileUploads)))
            .and_then(|()| self.may_send(&asked, user, &message.content));
        if let Err(refusal) = permitted {
            return self.refuse(asked, &refusal);
        }
        let Some(asked) = self.read_in_time(asked) else { return };
        let key_is_clients = message.client_message_id.is_some();
        // A message without a key of the client's gets one, so that it can be found after a lost connection.
        // U+0001 keeps it apart from every key that a client may give.
        let key = message
            .client_message_id
            .map_or_else(|| format!("\u{1}{:016x}", self.requests.mutation_id()), Cow::into_owned);
        let NewMessage { conversation, content, parent, message_type, files, .. } = message;
        let content = content.into_owned();
        let change = Change::Message { content, message_type, parent, key, key_is_clients, files };
        self.send_filtered(asked, user, Some(conversation), change);
    }

    /// Any other change: a row of the table of changes.
    pub(super) fn change(
        &mut self,
        asked: PendingCommand,
        user: UserId,
        row: usize,
        conversation: ConversationRef,
        arguments: Arguments,
    ) {
        let kind = &CHANGES[row];
        let permitted = self.may_begin().and_then(|()| self.may_use(kind.feature)).and_then(|()| match kind.meter {
            Meter::Change => self.may_write(&asked, user, &arguments),
            Meter::Mark => self.spend(&asked, user, Budget::Marks, 1),
        });
        if let Err(refusal) = permitted {
            return self.refuse(asked, &refusal);
        }
        let Some(asked) = self.read_in_time(asked) else { return };
        let query = match conversation {
            ConversationRef::None => return self.submit(asked, user, kind.name, None, arguments),
            ConversationRef::Conversation(conversation) => {
                return self.submit(asked, user, kind.name, Some(conversation), arguments);
            }
            ConversationRef::OfMessage(message) => Query::ConversationOfMessage(message),
            ConversationRef::OfInvite(code) => Query::ConversationOfInvite(code),
        };
        let pending = Pending::Change(Locating { asked, user, row, arguments });
        if let Err(Pending::Change(back)) = self.read(user, query, pending) {
            self.refuse_later(back.asked, too_many_reads());
        }
    }

    /// The conversation of a change was looked up.
    pub(super) fn located(&mut self, locating: Locating, found: Result<Option<ConversationId>, Box<Refusal>>) {
        let Locating { asked, user, row, arguments } = locating;
        match found {
            Ok(Some(conversation)) => {
                if let Some(grant) = &asked.sent_by.grant
                    && let Err(refusal) = permissions::check_located(grant, row, conversation)
                {
                    return self.refuse(asked, &refusal);
                }
                self.submit(asked, user, CHANGES[row].name, Some(conversation), arguments);
            }
            Ok(None) => {
                let message = match CHANGES[row].name {
                    "join_by_invite" => "data.code: This invitation does not exist, has ended, or was used up.",
                    _ => "data.message_id: There is no such message, or you may not see it.",
                };
                self.refuse(asked, &Refusal::new(ErrorCode::NotFound, message));
            }
            Err(refusal) => self.refuse(asked, &refusal),
        }
    }

    /// Submits what no client sent, so no rate limit applies.
    pub(super) fn announce(&mut self, announcement: Announcement) {
        let Announcement { user, conversation, kind, arguments, reply } = announcement;
        let origin = Origin::Http(reply);
        let sent_by = SentBy::default();
        let asked =
            PendingCommand { origin, id: None, command: None, sent_by, at: self.now, kib: 1, holds_slot: false };
        match self.may_begin() {
            Ok(()) => {
                let change = Change::Other { kind, mutation_id: self.requests.mutation_id(), arguments };
                self.send_to_owner(asked, user, Some(conversation), change);
            }
            Err(refusal) => self.refuse(asked, &refusal),
        }
    }

    fn submit(
        &mut self,
        asked: PendingCommand,
        user: UserId,
        kind: &'static str,
        conversation: Option<ConversationId>,
        arguments: Arguments,
    ) {
        let arguments = Value::Object(arguments);
        let change = Change::Other { kind, mutation_id: self.requests.mutation_id(), arguments };
        self.send_filtered(asked, user, conversation, change);
    }

    pub(super) fn may_begin(&self) -> Result<(), Refusal> {
        if self.shutdown.is_none() {
            return Ok(());
        }
        let message = "The server is shutting down. Reconnect in a moment.";
        Err(Refusal::new(ErrorCode::Overloaded, message).retry_after(1_000))
    }

    /// Refuses a part of the changes while what clients send waits too long. Their budgets have paid for it, and as for
    /// every refusal of waiting work, the answer takes a moment. So a client that repeats at once gains nothing.
    fn read_in_time(&mut self, asked: PendingCommand) -> Option<PendingCommand> {
        if asked.origin.connection().is_none_or(|conn| self.input_wait.accepts(conn)) {
            self.input_pressure.accepted(self.now_ms);
            return Some(asked);
        }
        let retry_ms = self.input_pressure.refused(self.now_ms, self.clock.random());
        self.refuse_later(asked, input_waits().retry_after(retry_ms));
        None
    }

    pub(super) fn may_use(&self, feature: Option<Feature>) -> Result<(), Refusal> {
        match feature.filter(|feature| !self.settings.features.has(*feature)) {
            None => Ok(()),
            Some(feature) => {
                let message = format!("This feature is switched off on this server ({}).", feature.key());
                Err(Refusal::new(ErrorCode::Forbidden, message))
            }
        }
    }

    /// A new text for a message must pass the same checks as a message.
    fn may_write(&mut self, asked: &PendingCommand, user: UserId, arguments: &Arguments) -> Result<(), Refusal> {
        match arguments.get("content").and_then(Value::as_str) {
            Some(content) => self.may_send(asked, user, content),
            None => self.may_change(asked, user),
        }
    }

    pub(super) fn may_send(&mut self, asked: &PendingCommand, user: UserId, content: &str) -> Result<(), Refusal> {
        self.spend(asked, user, Budget::Messages, 1)?;
        if !self.settings.content_filtering {
            return Ok(());
        }
        text::check(content, Shape::Lines)
            .map_err(|fault| Refusal::new(ErrorCode::ContentRejected, format!("data.content: {fault}")))
    }

    pub(super) fn may_change(&mut self, asked: &PendingCommand, user: UserId) -> Result<(), Refusal> {
        self.spend(asked, user, Budget::Changes, 1)
    }

    /// Sends a change to its owner if its texts may pass.
    fn send_filtered(
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
        let arguments = filter::record_of(&hits, &change, self.requests.mutation_id());
        let record = Change::Other {
            kind: "filter_text",
            mutation_id: self.requests.mutation_id(),
            arguments: arguments.into(),
        };
        let scope = filter::scope(&change, conversation);
        let mut from = ChangeSender::of(&asked, user);
        if hits.iter().all(|hit| hit.action == FilterAction::Flag) {
            // The text is sent whatever PostgreSQL decides, so it keeps its place among those of its author. The record
            // comes first on the same way: it is there when the text is acknowledged.
            from = ChangeSender { sent_by: SentBy::default(), connection: None, ..from };
            self.submit_change(Pending::FilterRecord(hits), from, scope, record);
            return self.send_to_owner(asked, user, conversation, change);
        }
        let filtering = Box::new(Filtering { asked, user, conversation, change, hits });
        self.submit_change(Pending::Filter(filtering), from, scope, record);
    }

    /// Checks a text that belongs to no conversation: nobody has a role there that may be exempt, so PostgreSQL only
    /// records the match.
    pub(super) fn may_show(
        &mut self,
        asked: &PendingCommand,
        user: UserId,
        (source, field): (&'static str, &'static str),
        text: &str,
    ) -> Result<(), Refusal> {
        let place = checked_texts(source).find(|(known, ..)| *known == field).map(|(_, place, _)| place);
        let Some(place) = place.filter(|_| self.settings.content_filtering) else { return Ok(()) };
        let context = Context { field: place, conversation: None, memory: None, now_s: self.now_ms / 1_000 };
        let hits = self.filter.check(text, &context).hits;
        let Some(worst) = hits.first().cloned() else { return Ok(()) };
        let arguments = filter::record(&hits).into();
        let record = Change::Other { kind: "filter_text", mutation_id: self.requests.mutation_id(), arguments };
        let from = ChangeSender { sent_by: SentBy::default(), connection: None, ..ChangeSender::of(asked, user) };
        self.submit_change(Pending::FilterRecord(hits), from, None, record);
        match worst.action {
            FilterAction::Flag => Ok(()),
            _ => {
                self.note_filtered(asked, user);
                Err(filter::refusal(FilterAction::Refuse, &worst.id, 0))
            }
        }
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
        let conversation = filter::scope(change, conversation);
        let mut hits: Vec<Arc<RuleHead>> = Vec::new();
        for (field, text) in filter::texts(change) {
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
        hits.sort_by_key(|hit| Reverse(hit.action));
        hits
    }

    fn repeats_of(&mut self, asked: &PendingCommand, user: UserId) -> Option<SharedRepeats> {
        match &asked.origin {
            Origin::Connection(conn) => self.connections.session(*conn).map(|session| Arc::clone(&session.repeats)),
            Origin::Http(_) | Origin::Invocation(..) => Some(self.directory.users.repeats(user)),
        }
    }

    /// PostgreSQL has decided about a text.
    pub(super) fn filter_answered(&mut self, filtering: Filtering, decided: Result<Value, Box<Refusal>>) {
        let Filtering { asked, user, conversation, change, hits } = filtering;
        let decided = match decided {
            Ok(decided) => decided,
            Err(_) if is_planted(Fault::SendUndecidedTexts) => json!({ "action": "pass" }),
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
                if hits.iter().any(|hit| hit.id == rule && hit.conversation.is_none()) {
                    self.note_filtered(&asked, user);
                }
                let mute_ms = hits.iter().find(|hit| hit.id == rule).map_or(0, |hit| hit.mute_s as u64 * 1_000);
                self.refuse(asked, &filter::refusal(action, rule, mute_ms));
            }
        }
    }

    /// Sends a held text that a moderator has approved, as its author.
    pub(super) fn send_approved(&mut self, approval: Approval) {
        let Approval { author, conversation, text, reply } = approval;
        let change = match text {
            ApprovedText::Message { content, message_type, parent, key, files } => {
                let key_is_clients = !key.starts_with('\u{1}');
                Change::Message { content, message_type, parent, key, key_is_clients, files }
            }
            ApprovedText::Edit { message, content, kept_files } => {
                let mut arguments = Arguments::new();
                arguments.insert("message_id".to_owned(), json!(message));
                arguments.insert("content".to_owned(), content.into());
                // The time to edit has passed or not when its author sent it.
                arguments.insert("window_s".to_owned(), 0.into());
                arguments.insert("was_held".to_owned(), true.into());
                if let Some(kept) = kept_files {
                    arguments.insert("attachments".to_owned(), json!(kept));
                }
                Change::Other {
                    kind: "edit_message",
                    mutation_id: self.requests.mutation_id(),
                    arguments: arguments.into(),
                }
            }
        };
        let asked = PendingCommand {
            origin: Origin::Http(reply),
            sent_by: SentBy::default(),
            id: None,
            command: None,
            at: self.now,
            kib: 1,
            holds_slot: false,
        };
        match self.may_begin() {
            Ok(()) => self.send_to_owner(asked, author, Some(conversation), change),
            Err(refusal) => self.refuse(asked, &refusal),
        }
    }

    fn send_to_owner(
        &mut self,
        asked: PendingCommand,
        user: UserId,
        conversation: Option<ConversationId>,
        change: Change,
    ) {
        let from = ChangeSender::of(&asked, user);
        self.submit_change(Pending::Command(asked), from, conversation, change);
    }

    /// Sends a change of `actor` to its owner. The answer is for `pending`.
    fn submit_change(
        &mut self,
        pending: Pending<W::Socket>,
        ChangeSender { user, sent_by, connection, received_at }: ChangeSender,
        conversation: Option<ConversationId>,
        change: Change,
    ) {
        // A conversation that is being created has no owner yet: its creator's shard acts as the owner.
        let owner = conversation.map_or(self.id, |conversation| self.placement.owner(conversation));
        let token = self.requests.insert(pending);
        let mutation = Box::new(Mutation {
            conversation,
            actor: user,
            session: sent_by.session,
            source: sent_by.source.filter(|_| matches!(change, Change::Other { .. })),
            origin: connection,
            token,
            owner,
            received_at,
            handed_over_at: self.clock.now(),
            deadline: self.now + Duration::from_millis(COMMIT_DEADLINE_MS),
            answered: false,
            change,
        });
        if self.request(owner, Request::Mutate(mutation)).is_err()
            && let Some(pending) = self.requests.take(token)
        {
            let asked = match pending {
                Pending::Command(asked) => asked,
                Pending::Filter(filtering) => filtering.asked,
                Pending::FilterRecord(_) => return, // the text is sent without being listed
                _ => return,                        // never: a change is submitted for one of these
            };
            self.refuse(asked, &full_lane("the lane to the conversation's shard"));
        }
    }
}
