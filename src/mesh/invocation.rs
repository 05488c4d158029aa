//! What crosses between shards and nodes for slash commands of bots.

use super::bot_grant::BotGrant;
use super::token::Token;
use crate::error::{ErrorCode, Refusal};
use crate::ids::{ConnId, ConversationId, MessageId, UserId};
use serde_json::{Value, json};
use std::sync::Arc;

/// The id of an invocation: its conversation, so that the limits of a token can be checked anywhere, and a random
/// number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvocationId {
    /// Where the command was run.
    pub conversation: ConversationId,
    /// Chosen by the shard that keeps the invocation.
    pub number: u64,
}

impl InvocationId {
    /// Reads its text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (conversation, number) = text.strip_prefix("inv_")?.rsplit_once('_')?;
        let is_number = number.len() == 16 && number.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let number = u64::from_str_radix(number, 16).ok().filter(|_| is_number)?;
        Some(Self { conversation: ConversationId::parse(conversation)?, number })
    }
}

impl std::fmt::Display for InvocationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "inv_{}_{:016x}", self.conversation, self.number)
    }
}

/// A command that a user runs, on its way to the shard of its bot.
pub struct Invocation {
    /// The command that waits for the answer.
    pub token: Token,
    /// Who runs it.
    pub user: UserId,
    /// Who answers it.
    pub bot: UserId,
    /// Where.
    pub conversation: ConversationId,
    /// In which thread.
    pub parent: Option<MessageId>,
    /// Its name.
    pub command: Box<str>,
    /// Whether it can be posted to a URL.
    pub has_url: bool,
    /// `command_invoked` without the id and the time.
    pub shown: serde_json::Map<String, Value>,
}

/// The answer of a bot, on its way to the shard of the bot.
pub struct InvocationAnswer {
    /// The command of the bot that waits for the outcome.
    pub token: Token,
    /// The bot.
    pub bot: UserId,
    /// What it answers.
    pub given: GivenAnswer,
}

/// The content of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GivenAnswer {
    /// What it answers.
    pub id: InvocationId,
    /// Whether all members see it.
    pub is_public: bool,
    /// The text.
    pub content: Box<str>,
}

/// A connection of a bot, on its way to the shard of the bot.
pub struct BotConnection {
    /// The bot.
    pub bot: UserId,
    /// The connection.
    pub conn: ConnId,
    /// What its token permits.
    pub grant: Arc<BotGrant>,
}

/// From a shard to the control plane: an invocation to be posted to the URL of its command. Full: the command is
/// refused as if the bot was offline.
pub struct BotPost {
    /// The bot.
    pub bot: UserId,
    /// The command.
    pub command: Box<str>,
    /// Its id, which is the id of the request too.
    pub id: InvocationId,
    /// The data of `command_invoked`.
    pub shown: Value,
}

/// An invocation for a bot that is connected to another node.
#[derive(Clone, PartialEq, Debug)]
pub struct NodeInvocation {
    /// The node.
    pub to: u64,
    /// The bot.
    pub bot: UserId,
    /// Where.
    pub conversation: ConversationId,
    /// The data of `command_invoked`.
    pub shown: Value,
}

/// An answer to an invocation that another node keeps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeAnswer {
    /// Names the answer to the node that waits for its outcome.
    pub number: u64,
    /// The bot.
    pub bot: UserId,
    /// The answer.
    pub given: GivenAnswer,
}

/// What became of a [`NodeAnswer`].
#[derive(Clone, PartialEq, Debug)]
pub struct NodeOutcome {
    /// The number of the answer.
    pub number: u64,
    /// The bot.
    pub bot: UserId,
    /// The data of the ack, or the refusal.
    pub outcome: Result<Value, Refusal>,
}

impl NodeOutcome {
    /// The outcome as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match &self.outcome {
            Ok(data) => json!({ "data": data }),
            Err(refusal) => json!({ "refusal": refusal }),
        }
    }

    /// Reads what [`Self::to_json`] has written. Another node may be of another version.
    #[must_use]
    pub fn outcome_of(mut written: Value) -> Option<Result<Value, Refusal>> {
        if let Some(data) = written.get_mut("data") {
            return Some(Ok(data.take()));
        }
        let refusal = written.get("refusal")?;
        let code = ErrorCode::parse(refusal["code"].as_str()?).unwrap_or(ErrorCode::Internal);
        let mut read = Refusal::new(code, refusal["message"].as_str()?.to_owned());
        read.retry_after_ms = refusal["retry_after_ms"].as_u64();
        read.details = refusal.get("details").cloned().map(Box::new);
        Some(Err(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_was_written() {
        let id = InvocationId { conversation: ConversationId::from_number(6).unwrap(), number: 0xab };
        assert_eq!(id.to_string(), "inv_room_6_00000000000000ab");
        assert_eq!(InvocationId::parse(&id.to_string()), Some(id));
        for bad in [
            "",
            "inv_",
            "inv_room_6",
            "inv_room_6_ab",
            "inv_room_6_00000000000000AB",
            "inv_room_5_0000000000000000",
            "inv_room_6_+000000000000ab",
        ] {
            assert_eq!(InvocationId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_outcome_crosses_between_nodes() {
        let refusal = Refusal::rate_limited("slowly", "messages", "user", 5, 60_000).retry_after(7);
        for outcome in [Ok(json!({"seq": 7})), Err(refusal)] {
            let sent = NodeOutcome { number: 1, bot: UserId(2), outcome: outcome.clone() };
            assert_eq!(NodeOutcome::outcome_of(sent.to_json()), Some(outcome));
        }
        assert_eq!(NodeOutcome::outcome_of(json!({})), None);
    }
}
