//! What the token of a bot permits. Pure.

use crate::error::{ErrorCode, Refusal};
use crate::ids::ConversationId;
use serde_json::json;

/// What a token may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Scope {
    /// Read conversations and receive their events.
    Read = 1,
    /// Send and change messages.
    Write = 2,
    /// Change conversations and their members.
    Manage = 4,
    /// Upload and download files.
    Files = 8,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Manage, Self::Files];

    /// As clients name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Manage => "manage",
            Self::Files => "files",
        }
    }

    /// The scope of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }
}

/// The scopes of a token, and the conversations that it is limited to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BotGrant {
    scopes: u8,
    /// Ascending; empty means every conversation of the bot.
    conversations: Box<[ConversationId]>,
}

impl BotGrant {
    /// From what PostgreSQL has. Unknown names are of a later version, and grant nothing here.
    #[must_use]
    pub fn new(scopes: &[String], mut conversations: Vec<ConversationId>) -> Self {
        conversations.sort_unstable();
        let scopes = scopes.iter().filter_map(|name| Scope::parse(name)).fold(0, |set, scope| set | scope as u8);
        Self { scopes, conversations: conversations.into() }
    }

    /// Whether it has a scope.
    #[must_use]
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes & scope as u8 != 0
    }

    /// Whether it is limited to some conversations.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        !self.conversations.is_empty()
    }

    /// Whether it may be used in a conversation.
    #[must_use]
    pub fn covers(&self, conversation: ConversationId) -> bool {
        !self.is_limited() || self.conversations.binary_search(&conversation).is_ok()
    }

    /// Whether the connection of the token receives what is for the bot and belongs to no subscription. A limited token
    /// receives none of it, because a notice can be about any conversation.
    #[must_use]
    pub fn receives_notices(&self) -> bool {
        self.has(Scope::Read) && !self.is_limited()
    }

    /// Passes if the token has a scope.
    ///
    /// # Errors
    /// `forbidden`, with the scope.
    pub fn require(&self, scope: Scope) -> Result<(), Refusal> {
        if self.has(scope) {
            return Ok(());
        }
        let name = scope.as_str();
        let message = format!("The bot's token has no scope {name:?}. Its owner can create a token that has it.");
        Err(forbidden(message, scope))
    }

    /// Passes if the token may be used in a conversation.
    ///
    /// # Errors
    /// `forbidden`, with the scope that the request needs.
    pub fn require_conversation(&self, scope: Scope, conversation: ConversationId) -> Result<(), Refusal> {
        if self.covers(conversation) {
            return Ok(());
        }
        let message = format!("The bot's token is limited to other conversations than {conversation}.");
        Err(forbidden(message, scope))
    }

    /// Passes if the token is not limited to conversations.
    ///
    /// # Errors
    /// `forbidden`, with the scope that the request needs.
    pub fn require_unlimited(&self, scope: Scope) -> Result<(), Refusal> {
        if !self.is_limited() {
            return Ok(());
        }
        let message = "The bot's token is limited to some conversations, and this is about more than those.";
        Err(forbidden(message, scope))
    }
}

fn forbidden(message: impl Into<std::borrow::Cow<'static, str>>, scope: Scope) -> Refusal {
    Refusal::new(ErrorCode::Forbidden, message).with_details(json!({ "scope": scope.as_str() }))
}

/// A bot may not do this, whatever its token permits.
#[must_use]
pub fn not_for_bots() -> Refusal {
    Refusal::new(ErrorCode::Forbidden, "This is for people. Bots cannot do it.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_has_its_scopes_in_its_conversations_only() {
        let rooms: Vec<ConversationId> = [10, 6].into_iter().filter_map(ConversationId::from_number).collect();
        let other = ConversationId::from_number(14).unwrap();
        let limited = BotGrant::new(&["read".to_owned(), "later".to_owned()], rooms.clone());
        assert!(limited.has(Scope::Read) && !limited.has(Scope::Write) && limited.is_limited());
        assert!(rooms.iter().all(|room| limited.covers(*room)) && !limited.covers(other));
        let refusal = limited.require(Scope::Write).unwrap_err();
        assert_eq!((refusal.code, refusal.details.unwrap()["scope"].as_str()), (ErrorCode::Forbidden, Some("write")));
        assert!(limited.require_conversation(Scope::Read, other).is_err() && !limited.receives_notices());
        let free = BotGrant::new(&["read".to_owned()], Vec::new());
        assert!(free.covers(other) && free.receives_notices() && free.require_unlimited(Scope::Read).is_ok());
    }
}
