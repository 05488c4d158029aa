//! Every text that users write, and what the filter does with it. The shards and the control plane look here before
//! they check a text, and a test compares the table with the fields of all commands and routes.

use super::compiled::Field;

/// Whose rules apply to a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Those of the server and of its conversation. Members with an exempt role may write it.
    Conversation,
    /// Those of the server only: nobody has a role there, and no moderator decides.
    Server,
}

/// What happens to a text before others see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Treatment {
    /// The rules check it.
    Checked(Field, Reach),
    /// They do not, for this reason.
    Exempt(&'static str),
}

/// One text.
#[derive(Clone, Copy, Debug)]
pub struct WrittenText {
    /// The command, or the method and path of the route.
    pub source: &'static str,
    /// Its field.
    pub field: &'static str,
    /// What happens to it.
    pub treatment: Treatment,
}

const fn checked(source: &'static str, field: &'static str, place: Field, reach: Reach) -> WrittenText {
    WrittenText { source, field, treatment: Treatment::Checked(place, reach) }
}

const fn exempt(source: &'static str, field: &'static str, reason: &'static str) -> WrittenText {
    WrittenText { source, field, treatment: Treatment::Exempt(reason) }
}

const OWN: &str = "Only its author sees it.";
const SECRET: &str = "It is a secret. Nobody sees it.";
const MODERATORS: &str = "Only moderators write and see it. They must be able to quote what they ban.";
const ADMINISTRATORS: &str = "Only administrators write and see it, and it has the words of the rules.";
const MADE_BY_SERVER: &str = "The server made it.";
const BOTS: &str = "It becomes a message of a bot, which is checked as `send_message`.";
const TO_BOTS: &str = "A bot receives it. What the bot posts is checked.";
const EXISTS: &str = "It names what exists already.";

/// A row for every command and route with this field.
pub const EVERYWHERE: &str = "*";

/// Every text.
pub const WRITTEN_TEXTS: &[WrittenText] = &[
    checked("send_message", "content", Field::Message, Reach::Conversation),
    checked("edit_message", "content", Field::Message, Reach::Conversation),
    // A conversation that is being created has no rules yet.
    checked("create_conversation", "name", Field::RoomName, Reach::Server),
    checked("create_conversation", "description", Field::Description, Reach::Server),
    checked("update_conversation", "name", Field::RoomName, Reach::Conversation),
    checked("update_conversation", "description", Field::Description, Reach::Conversation),
    // Only `:shortcodes:` are texts.
    checked("add_reaction", "emoji", Field::Description, Reach::Conversation),
    // An outsider must not learn the rules of the room.
    checked("request_to_join", "text", Field::Description, Reach::Server),
    checked("set_presence", "status_text", Field::Description, Reach::Server),
    checked("POST /auth/register", "username", Field::UserName, Reach::Server),
    checked("POST /auth/register", "display_name", Field::UserName, Reach::Server),
    checked("PATCH /users/me", "display_name", Field::UserName, Reach::Server),
    checked("PATCH /users/me", "bio", Field::Description, Reach::Server),
    checked("PATCH /users/me", "avatar_url", Field::Description, Reach::Server),
    // Also the name of a file in a form.
    checked("POST /files", "name", Field::Description, Reach::Server),
    exempt("POST /files", "media_type", "It must agree with what the content is."),
    exempt("POST /files", "sha256", "It is a digest."),
    checked("POST /incoming-webhooks", "name", Field::UserName, Reach::Server),
    checked("POST /bots", "username", Field::UserName, Reach::Server),
    checked("POST /bots", "display_name", Field::UserName, Reach::Server),
    checked("POST /bots", "avatar_url", Field::Description, Reach::Server),
    checked("POST /bots", "bio", Field::Description, Reach::Server),
    checked("PATCH /bots/{id}", "display_name", Field::UserName, Reach::Server),
    checked("PATCH /bots/{id}", "avatar_url", Field::Description, Reach::Server),
    checked("PATCH /bots/{id}", "bio", Field::Description, Reach::Server),
    exempt("POST /bots/{id}/tokens", "name", OWN),
    exempt("POST /bots/{id}/tokens", "conversation_ids", EXISTS),
    checked("PUT /bots/{id}/commands", "commands", Field::Description, Reach::Server),
    exempt("run_command", "command", EXISTS),
    exempt("run_command", "text", TO_BOTS),
    checked("answer_command", "content", Field::Message, Reach::Server),
    exempt("answer_command", "invocation_id", EXISTS),
    exempt("POST /hooks/in/{token}", "text", BOTS),
    exempt("POST /hooks/in/{token}", "content", BOTS),
    exempt("POST /hooks/in/{token}", "thread", EXISTS),
    exempt("POST /webhooks", "url", OWN),
    exempt("PATCH /webhooks/{id}", "url", OWN),
    exempt("ban_member", "reason", MODERATORS),
    exempt("send_message", "client_message_id", OWN),
    exempt("remove_reaction", "emoji", EXISTS),
    exempt("list_reactions", "emoji", EXISTS),
    exempt("list_public_rooms", "query", OWN),
    exempt("search_messages", "query", OWN),
    exempt("POST /auth/register", "email", OWN),
    exempt("POST /auth/register", "proof", SECRET),
    exempt("POST /auth/register", "captcha", SECRET),
    exempt("POST /auth/login", "login", EXISTS),
    exempt("POST /api/commands", "type", EXISTS),
    exempt("POST /api/commands", "id", OWN),
    exempt(EVERYWHERE, "conversation_id", EXISTS),
    exempt(EVERYWHERE, "cursor", MADE_BY_SERVER),
    exempt(EVERYWHERE, "device_name", OWN),
    exempt(EVERYWHERE, "password", SECRET),
    exempt(EVERYWHERE, "current_password", SECRET),
    exempt(EVERYWHERE, "new_password", SECRET),
    exempt(EVERYWHERE, "code", SECRET),
    exempt(EVERYWHERE, "totp_code", SECRET),
    exempt(EVERYWHERE, "backup_code", SECRET),
    exempt(EVERYWHERE, "challenge", SECRET),
    exempt(EVERYWHERE, "refresh_token", SECRET),
    exempt("PUT /admin/filter-rules", "rules", ADMINISTRATORS),
    exempt("PUT /conversations/{id}/filter-rules", "rules", ADMINISTRATORS),
];

/// The texts of a command or a route that the rules check: their field, place and reach.
pub fn checked_texts(source: &str) -> impl Iterator<Item = (&'static str, Field, Reach)> {
    WRITTEN_TEXTS.iter().filter(move |text| text.source == source).filter_map(|text| match text.treatment {
        Treatment::Checked(place, reach) => Some((text.field, place, reach)),
        Treatment::Exempt(_) => None,
    })
}
