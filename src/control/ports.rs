//! What the control plane needs from the rest of the process.

use crate::chat::filter::FilterRuleSet;
use crate::error::Refusal;
use crate::ids::{ConversationId, UserId};
use crate::mesh::asked::ApprovedText;
use crate::mesh::bot_grant::BotGrant;
use crate::mesh::standing::MarkedUsers;
use bytes::Bytes;
use serde::Serialize;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub use crate::audit::caller::Caller;

/// The reply to a command.
pub type CommandFuture = Pin<Box<dyn Future<Output = Result<Bytes, Refusal>> + Send>>;

/// The port to the shards.
pub trait CommandPort: Send + Sync {
    /// Executes one command, `{"type", "id"?, "data"}`, and returns its ack's `data` as JSON. `grant` is what the
    /// token of a bot permits.
    fn execute(&self, caller: Caller, grant: Option<Arc<BotGrant>>, body: Bytes) -> CommandFuture;
}

/// One thing that must be well for this node to serve.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// Its name in the answer.
    pub name: &'static str,
    /// Whether it is well.
    pub ok: bool,
    /// The reason, if the check fails.
    pub reason: Option<String>,
}

/// Where the checks come from.
pub trait HealthPort: Send + Sync {
    /// The present state; must not block.
    fn checks(&self) -> Vec<Check>;
}

/// What the limits of users need from the shards.
pub trait LimitsPort: Send + Sync {
    /// Tells every shard whose limits are shrunk; must not block.
    fn mark(&self, marked: Arc<MarkedUsers>);

    /// The limits of a user now, as JSON. `created_at` is when the account was made, in seconds of Unix time.
    fn explain(&self, user: UserId, created_at: i64) -> CommandFuture;
}

/// What files need from the shards.
pub trait FilesPort: Send + Sync {
    /// Settles a file whose check has ended, in the log of its conversation; see `mutate/mutate_settle_file.sql`.
    fn settle(&self, uploader: UserId, conversation: ConversationId, arguments: serde_json::Value) -> CommandFuture;
}

/// What the content filter needs from the shards.
pub trait FilterPort: Send + Sync {
    /// Gives every shard these rules; must not block.
    fn publish(&self, rules: Arc<FilterRuleSet>);

    /// Sends a held text as a message of its author.
    fn send_approved(&self, author: UserId, conversation: ConversationId, text: ApprovedText) -> CommandFuture;

    /// Sends the connections of its author that a moderator has rejected a held text.
    fn announce_rejection(&self, author: UserId, conversation: ConversationId, held: i64) -> CommandFuture;
}

/// The outcome of a reload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ReloadReport {
    /// Keys whose new values are in force.
    pub applied: Vec<String>,
    /// Keys that have changed, and need a restart.
    pub restart_required: Vec<String>,
    /// Why the configuration was not applied; then nothing was.
    pub rejected: Vec<RejectedValue>,
}

/// A problem of the configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RejectedValue {
    /// The key; empty if the problem is a whole file.
    pub key: String,
    /// What is wrong, and what is valid.
    pub reason: String,
    /// The file or the variable that has it.
    pub origin: String,
}

/// The outcome, once it is known.
pub type ReloadFuture = Pin<Box<dyn Future<Output = Result<ReloadReport, Refusal>> + Send>>;

/// What can load the configuration.
pub trait ReloadPort: Send + Sync {
    /// Loads it for this administrator.
    fn reload(&self, caller: Caller) -> ReloadFuture;
}
