//! Mutations on their way to the conversation's owner: budget, filter, key.

use super::Shard;
use super::pending::{Asked, Origin, Pending};
use crate::chat::filter;
use crate::error::{ErrorCode, Refusal};
use crate::ids::{ConversationId, UserId};
use crate::limits::COMMIT_DEADLINE_MS;
use crate::mesh::frame::{Change, Mutation, Request};
use crate::wire::command::Command;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Shard {
    /// Turns a command into a mutation. A kind of mutation is one arm here and `mutate_<kind>` in PostgreSQL.
    pub(super) fn mutate(&mut self, asked: Asked, user: UserId, command: Command<'_>) {
        if self.drain.is_some() {
            let words = "the server is restarting; connect again in a moment";
            return self.refuse(asked, &Refusal::new(ErrorCode::Overloaded, words).retry_after(1_000), true);
        }
        let (conversation, change) = match command {
            Command::SendMessage { conversation, content, parent, message_type, client_message_id } => {
                if let Err(refusal) = self.may_send(&asked, user, &content) {
                    return self.refuse(asked, &refusal, true);
                }
                let key_is_clients = client_message_id.is_some();
                // A message without a key of the client's gets one, so that it can be found after a lost connection.
                // U+0001 keeps it apart from every key that a client may give.
                let key = client_message_id
                    .map_or_else(|| format!("\u{1}{:016x}", self.mutation_id()), std::borrow::Cow::into_owned);
                let content = content.into_owned();
                (Some(conversation), Change::Message { content, message_type, parent, key, key_is_clients })
            }
            Command::CreateConversation { kind, name, description, members } => {
                let arguments =
                    json!({ "kind": kind, "name": name, "description": description, "member_ids": members });
                (None, self.other("create_conversation", arguments))
            }
            Command::JoinConversation { conversation } => {
                (Some(conversation), self.other("join_conversation", Value::Null))
            }
            Command::LeaveConversation { conversation } => {
                (Some(conversation), self.other("leave_conversation", Value::Null))
            }
            Command::InviteMember { conversation, user: invited } => {
                (Some(conversation), self.other("invite_member", json!({ "user_id": invited })))
            }
            Command::MarkRead { conversation, seq } => {
                (Some(conversation), self.other("mark_read", json!({ "seq": seq })))
            }
            Command::GetHistory { .. }
            | Command::ListConversations { .. }
            | Command::GetConversation { .. }
            | Command::ListMembers { .. }
            | Command::Subscribe { .. }
            | Command::Unsubscribe { .. }
            | Command::Resume { .. }
            | Command::Typing { .. }
            | Command::Ping => {
                let words = "the server took a question for a change; this is a fault of its own";
                return self.refuse(asked, &Refusal::new(ErrorCode::Internal, words), true);
            }
        };
        self.send_to_owner(asked, user, conversation, change);
    }

    fn other(&mut self, kind: &'static str, arguments: Value) -> Change {
        Change::Other { kind, mutation_id: self.mutation_id(), arguments }
    }

    fn may_send(&mut self, asked: &Asked, user: UserId, content: &str) -> Result<(), Refusal> {
        let budget = match &asked.origin {
            Origin::Connection(conn) => self.session(*conn).map(|session| Arc::clone(&session.budget)),
            // HTTP commands come to the user's shard, which keeps the budget.
            Origin::Http(_) => Some(self.registry.budget(user)),
        };
        let now_ns = self.now_ns();
        if let Some(budget) = budget
            && let Err(wait_ms) = self.message_rate.take(&budget, now_ns)
        {
            let limit = self.settings.limits.max_messages_per_minute;
            let words = format!("at most {limit} messages a minute are allowed; wait and send it again");
            return Err(Refusal::new(ErrorCode::RateLimited, words).retry_after(wait_ms));
        }
        if self.settings.content_filtering { filter::check(content) } else { Ok(()) }
    }

    fn send_to_owner(&mut self, asked: Asked, user: UserId, conversation: Option<ConversationId>, change: Change) {
        // What is being created has no owner yet: its creator's shard stands in for it.
        let owner = conversation.map_or(self.id, |conversation| self.mesh.placement.owner(conversation));
        let origin = asked.origin.connection();
        let received_at = asked.at;
        let token = self.pending.insert(Pending::Command(asked));
        let mutation = Box::new(Mutation {
            conversation,
            actor: user,
            origin,
            token,
            owner,
            received_at,
            handed_over_at: Instant::now(),
            deadline: self.now + Duration::from_millis(COMMIT_DEADLINE_MS),
            answered: false,
            change,
        });
        if self.request(owner, Request::Mutate(mutation)).is_err()
            && let Some(Pending::Command(asked)) = self.pending.take(token)
        {
            self.refuse(asked, &Refusal::overloaded("the way to the conversation's core"), true);
        }
    }
}
