//! Mutations on their way to the conversation's owner: budget, filter, key.

use super::Shard;
use super::rate_limits::Budget;
use super::refusals::too_many_reads;
use super::requests::{Locating, Origin, Pending, PendingCommand};
use super::world::{Clock, World};
use crate::error::{ErrorCode, Refusal};
use crate::ids::{ConnId, ConversationId, MessageId, UserId};
use crate::limits::{COMMIT_DEADLINE_MS, Feature};
use crate::mesh::frame::{Announcement, Change, Mutation, Query, Request};
use crate::text::{self, Shape};
use crate::wire::command::changes::{CHANGES, Meter};
use crate::wire::command::{Arguments, ConversationRef};
use serde_json::Value;
use std::borrow::Cow;
use std::time::{Duration, Instant};

/// A message as its sender gave it.
pub(super) struct NewMessage<'a> {
    pub(super) conversation: ConversationId,
    pub(super) content: Cow<'a, str>,
    pub(super) parent: Option<MessageId>,
    pub(super) message_type: &'static str,
    pub(super) client_message_id: Option<Cow<'a, str>>,
}

impl<W: World> Shard<W> {
    pub(super) fn send_message(&mut self, asked: PendingCommand, user: UserId, message: NewMessage<'_>) {
        let permitted = self
            .may_begin()
            .and_then(|()| self.may_use(message.parent.map(|_| Feature::MessageThreads)))
            .and_then(|()| self.may_send(&asked, user, &message.content));
        if let Err(refusal) = permitted {
            return self.refuse(asked, &refusal);
        }
        let key_is_clients = message.client_message_id.is_some();
        // A message without a key of the client's gets one, so that it can be found after a lost connection.
        // U+0001 keeps it apart from every key that a client may give.
        let key = message
            .client_message_id
            .map_or_else(|| format!("\u{1}{:016x}", self.requests.mutation_id()), Cow::into_owned);
        let NewMessage { conversation, content, parent, message_type, .. } = message;
        let change = Change::Message { content: content.into_owned(), message_type, parent, key, key_is_clients };
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
            Ok(Some(conversation)) => self.submit(asked, user, CHANGES[row].name, Some(conversation), arguments),
            Ok(None) => {
                let message = "data: There is no such message or invitation, or you may not see it.";
                self.refuse(asked, &Refusal::new(ErrorCode::NotFound, message));
            }
            Err(refusal) => self.refuse(asked, &refusal),
        }
    }

    /// Writes a changed profile into a conversation's log. No client sent it, so no rate limit applies.
    pub(super) fn announce(&mut self, announcement: Announcement) {
        let Announcement { user, conversation, reply } = announcement;
        let asked =
            PendingCommand { origin: Origin::Http(reply), id: None, command: None, at: self.now, holds_slot: false };
        match self.may_begin() {
            Ok(()) => self.submit(asked, user, "announce_profile", Some(conversation), Arguments::new()),
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

    fn may_use(&self, feature: Option<Feature>) -> Result<(), Refusal> {
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

    fn may_send(&mut self, asked: &PendingCommand, user: UserId, content: &str) -> Result<(), Refusal> {
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

    pub(super) fn send_to_owner(
        &mut self,
        asked: PendingCommand,
        user: UserId,
        conversation: Option<ConversationId>,
        change: Change,
    ) {
        let (origin, received_at) = (asked.origin.connection(), asked.at);
        self.submit_change(Pending::Command(asked), (user, origin, received_at), conversation, change);
    }

    /// Sends a change of `actor` to its owner. The answer is for `pending`.
    pub(super) fn submit_change(
        &mut self,
        pending: Pending<W::Socket>,
        (actor, origin, received_at): (UserId, Option<ConnId>, Instant),
        conversation: Option<ConversationId>,
        change: Change,
    ) {
        // A conversation that is being created has no owner yet: its creator's shard acts as the owner.
        let owner = conversation.map_or(self.id, |conversation| self.placement.owner(conversation));
        let token = self.requests.insert(pending);
        let mutation = Box::new(Mutation {
            conversation,
            actor,
            origin,
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
                _ => return, // never: a change is submitted for one of these two
            };
            self.refuse(asked, &Refusal::overloaded("the lane to the conversation's shard"));
        }
    }
}
