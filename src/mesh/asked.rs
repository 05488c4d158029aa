//! What the control plane asks a user's shard to do, and where the answer goes. Closures carry the answers: the shards
//! know nothing of HTTP.

use super::bot_grant::BotGrant;
use crate::address::RequestSource;
use crate::error::Refusal;
use crate::ids::{ConversationId, FileId, MessageId, SessionId, UserId};
use std::sync::Arc;

/// Where the answer to the control plane goes.
pub type HttpReply = Box<dyn FnOnce(Result<Vec<u8>, Refusal>) + Send>;

/// A command received over HTTP.
pub struct HttpCommand {
    /// The user who sent the command.
    pub user: UserId,
    /// The sign-in that it was sent with.
    pub session: SessionId,
    /// What the token permits, if it is a bot's.
    pub grant: Option<Arc<BotGrant>>,
    /// Where the request came from.
    pub source: Arc<RequestSource>,
    /// The command's JSON.
    pub body: Vec<u8>,
    /// Called once with the ack's data as JSON, or the refusal.
    pub reply: HttpReply,
}

/// An administrator's question for the limits of a user.
pub struct LimitsQuestion {
    /// The user.
    pub user: UserId,
    /// When the account was made, in seconds of Unix time.
    pub created_at: i64,
    /// Called once with the limits as JSON.
    pub reply: HttpReply,
}

/// A mutation of the server's own, which no client sent: a changed profile, the end of a file's check, a part of an
/// erasure.
pub struct Announcement {
    /// The user who counts as its actor.
    pub user: UserId,
    /// The conversation.
    pub conversation: ConversationId,
    /// The name of the mutation: `mutate_<kind>`.
    pub kind: &'static str,
    /// What it needs.
    pub arguments: serde_json::Value,
    /// Called once with the outcome.
    pub reply: HttpReply,
}

/// A text that was held.
#[derive(Debug)]
pub enum ApprovedText {
    /// A message.
    Message {
        /// The text.
        content: String,
        /// `text`, `image`, `file`.
        message_type: &'static str,
        /// For a reply, a message of its thread.
        parent: Option<MessageId>,
        /// The key of its first attempt.
        key: String,
        /// Its files.
        files: Vec<FileId>,
    },
    /// A new text of a message.
    Edit {
        /// The message.
        message: MessageId,
        /// The text.
        content: String,
        /// The files that stay; all of them with `None`.
        kept_files: Option<Vec<FileId>>,
    },
}

/// A held text that a moderator has approved.
pub struct Approval {
    /// Its author.
    pub author: UserId,
    /// Its conversation.
    pub conversation: ConversationId,
    /// The message or the edit.
    pub text: ApprovedText,
    /// Called once with the outcome.
    pub reply: HttpReply,
}
