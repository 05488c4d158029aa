//! What the token of a bot must permit for each command: the one place where commands of bots are checked. Pure.
//!
//! A command needs a scope. A token that is limited to conversations may be used only for commands that name one of
//! them. What PostgreSQL permits to the bot as a member applies after this.

use crate::error::{ErrorCode, Refusal};
use crate::ids::ConversationId;
use crate::mesh::bot_grant::{BotGrant, Scope, not_for_bots};
use crate::mesh::invocation::InvocationId;
use crate::wire::command::changes::CHANGES;
use crate::wire::command::{Arguments, Command, ConversationRef};

/// What a token needs for a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Need {
    /// Nothing: it reveals and changes nothing.
    Nothing,
    /// This scope, in the conversation of the command.
    Within(Scope),
    /// This scope, without a limit to conversations: the command is about the whole account.
    Everywhere(Scope),
    /// It is for people only.
    Refused,
}

use Need::{Everywhere, Nothing, Refused, Within};
use Scope::{Manage, Read, Write};

/// Every command. One without a row is refused, and fails a test.
const NEEDS: &[(&str, Need)] = &[
    ("ping", Nothing),
    ("send_message", Within(Write)),
    ("edit_message", Within(Write)),
    ("delete_message", Within(Write)),
    ("pin_message", Within(Write)),
    ("add_reaction", Within(Write)),
    ("remove_reaction", Within(Write)),
    ("typing", Within(Write)),
    ("answer_command", Within(Write)),
    ("set_presence", Everywhere(Write)),
    ("get_history", Within(Read)),
    ("get_conversation", Within(Read)),
    ("get_thread", Within(Read)),
    ("get_presence", Everywhere(Read)),
    ("list_conversations", Everywhere(Read)),
    ("list_public_rooms", Everywhere(Read)),
    ("list_members", Within(Read)),
    ("list_threads", Within(Read)),
    ("list_edits", Within(Read)),
    ("list_pins", Within(Read)),
    ("list_reactions", Within(Read)),
    ("list_mentions", Within(Read)),
    ("search_messages", Within(Read)),
    ("subscribe", Within(Read)),
    ("unsubscribe", Within(Read)),
    ("resume", Within(Read)),
    ("mark_read", Within(Read)),
    ("mark_thread_read", Within(Read)),
    ("follow_thread", Within(Read)),
    ("create_conversation", Everywhere(Manage)),
    ("join_conversation", Within(Manage)),
    ("leave_conversation", Within(Manage)),
    ("invite_member", Within(Manage)),
    ("remove_member", Within(Manage)),
    ("set_role", Within(Manage)),
    ("transfer_ownership", Within(Manage)),
    ("mute_member", Within(Manage)),
    ("ban_member", Within(Manage)),
    ("unban_member", Within(Manage)),
    ("update_conversation", Within(Manage)),
    ("archive_conversation", Within(Manage)),
    ("create_invite", Within(Manage)),
    ("revoke_invite", Within(Manage)),
    ("decide_join_request", Within(Manage)),
    ("list_bans", Within(Manage)),
    ("list_invites", Within(Manage)),
    ("list_join_requests", Within(Manage)),
    ("list_blocks", Everywhere(Manage)),
    ("block_user", Everywhere(Manage)),
    ("unblock_user", Everywhere(Manage)),
    // A bot that calls another one could go on forever.
    ("run_command", Refused),
    // Its owner decides where a bot is.
    ("join_by_invite", Refused),
    ("request_to_join", Refused),
    ("cancel_join_request", Refused),
    ("list_invitations", Refused),
    ("accept_invitation", Refused),
    ("decline_invitation", Refused),
];

fn need_of(name: &str) -> Need {
    NEEDS.iter().find(|(known, _)| *known == name).map_or(Refused, |(_, need)| *need)
}

/// The conversations that a command names.
enum Named {
    These(Vec<ConversationId>),
    /// That of a message or an invitation, which must be looked up; [`check_located`] follows.
    LookedUp,
    None,
}

fn in_arguments(arguments: &Arguments) -> Named {
    let number = arguments.get("conversation").and_then(serde_json::Value::as_i64);
    number.and_then(ConversationId::from_number).map_or(Named::None, |conversation| Named::These(vec![conversation]))
}

fn named_by(command: &Command<'_>) -> Named {
    match command {
        Command::SendMessage { conversation, .. }
        | Command::GetHistory { conversation, .. }
        | Command::GetConversation { conversation }
        | Command::ListMembers { conversation, .. }
        | Command::Subscribe { conversation, .. }
        | Command::Unsubscribe { conversation }
        | Command::Typing { conversation } => Named::These(vec![*conversation]),
        Command::Resume { cursors, .. } => {
            Named::These(cursors.iter().map(|(conversation, _)| *conversation).collect())
        }
        Command::Change { conversation, .. } => match conversation {
            ConversationRef::Conversation(conversation) => Named::These(vec![*conversation]),
            ConversationRef::OfMessage(_) | ConversationRef::OfInvite(_) => Named::LookedUp,
            ConversationRef::None => Named::None,
        },
        // An id that cannot be read is refused by the command.
        Command::AnswerCommand { invocation, .. } => {
            Named::These(InvocationId::parse(invocation).map(|id| id.conversation).into_iter().collect())
        }
        Command::RunCommand { conversation, .. } => Named::These(vec![*conversation]),
        Command::Lookup { arguments, .. } => in_arguments(arguments),
        Command::ListConversations { .. }
        | Command::SetPresence { .. }
        | Command::GetPresence { .. }
        | Command::Ping => Named::None,
    }
}

/// Passes if a token permits a command.
///
/// # Errors
/// `forbidden`, with the scope that the command needs.
pub(super) fn check(grant: &BotGrant, command: &Command<'_>) -> Result<(), Refusal> {
    let name = Command::NAMES[usize::from(command.id().0)];
    let scope = match need_of(name) {
        Nothing => return Ok(()),
        Refused => return Err(not_for_bots()),
        Everywhere(scope) => {
            grant.require(scope)?;
            return grant.require_unlimited(scope);
        }
        Within(scope) => scope,
    };
    grant.require(scope)?;
    if !grant.is_limited() {
        return Ok(());
    }
    match named_by(command) {
        Named::These(conversations) => {
            conversations.iter().try_for_each(|conversation| grant.require_conversation(scope, *conversation))
        }
        Named::LookedUp => Ok(()),
        Named::None => {
            let message = "data.conversation_id: This field is missing. The bot's token is limited to some \
                           conversations, so the command must name one of them.";
            Err(Refusal::new(ErrorCode::Forbidden, message)
                .with_details(serde_json::json!({ "scope": scope.as_str() })))
        }
    }
}

/// Passes if a token permits a change, a row of [`CHANGES`], in the conversation that was looked up for it.
///
/// # Errors
/// `forbidden`, with the scope.
pub(super) fn check_located(grant: &BotGrant, row: usize, conversation: ConversationId) -> Result<(), Refusal> {
    match need_of(CHANGES[row].name) {
        Within(scope) => grant.require_conversation(scope, conversation),
        // Its scope was checked before.
        Nothing | Everywhere(_) | Refused => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Format;
    use crate::wire::command;
    use crate::wire::json::JsonReader;

    #[test]
    fn every_command_has_one_row() {
        for name in Command::NAMES {
            assert_eq!(NEEDS.iter().filter(|(known, _)| *known == name).count(), 1, "{name}");
        }
        assert_eq!(NEEDS.len(), Command::NAMES.len(), "no row of another name");
    }

    fn check_text(grant: &BotGrant, text: &str) -> Result<(), String> {
        let mut bytes = text.as_bytes().to_vec();
        let mut json = JsonReader::default();
        let parsed = command::parse(&mut bytes, Format::Json, &mut json, &crate::limits::Limits::default());
        check(grant, &parsed.command.unwrap()).map_err(|refusal| refusal.message.into_owned())
    }

    #[test]
    fn a_limited_token_names_its_conversation_in_every_command() {
        let room = ConversationId::from_number(6).unwrap();
        let scopes = ["read", "write", "manage"].map(str::to_owned);
        let (limited, free) = (BotGrant::new(&scopes, vec![room]), BotGrant::new(&scopes, Vec::new()));
        for (text, passes) in [
            (r#"{"type":"ping"}"#, true),
            (r#"{"type":"get_history","data":{"conversation_id":"room_6"}}"#, true),
            (r#"{"type":"get_history","data":{"conversation_id":"room_10"}}"#, false),
            (r#"{"type":"get_thread","data":{"message_id":1}}"#, false),
            (r#"{"type":"get_thread","data":{"message_id":1,"conversation_id":"room_6"}}"#, true),
            (r#"{"type":"search_messages","data":{"query":"a"}}"#, false),
            (r#"{"type":"resume","data":{"cursors":{"room_6":1}}}"#, true),
            (r#"{"type":"resume","data":{"cursors":{"room_6":1,"room_10":1}}}"#, false),
            (r#"{"type":"list_conversations"}"#, false),
            (r#"{"type":"create_conversation","data":{"kind":"public_room","name":"x"}}"#, false),
            (r#"{"type":"edit_message","data":{"message_id":1,"content":"x"}}"#, true),
        ] {
            assert_eq!(check_text(&limited, text).is_ok(), passes, "{text}: {:?}", check_text(&limited, text));
            assert_eq!(check_text(&free, text), Ok(()), "{text}");
        }
        let other = ConversationId::from_number(10).unwrap();
        let edit = CHANGES.iter().position(|kind| kind.name == "edit_message").unwrap();
        assert!(check_located(&limited, edit, room).is_ok() && check_located(&limited, edit, other).is_err());
        let invitation = r#"{"type":"accept_invitation","data":{"conversation_id":"room_6"}}"#;
        assert!(check_text(&free, invitation).is_err(), "for people only");
    }
}
