//! The table of changes other than new messages: each is checked here and executed by `mutate_<name>` in PostgreSQL.
//!
//! Everything between them treats all kinds alike: the shard finds the owner shard by the [`ConversationRef`], the
//! committer passes the arguments on, and PostgreSQL returns the events ready to publish.

use super::arguments::{Arguments, ConversationRef};
use super::fields::Fields;
use crate::error::{ErrorCode, Refusal};
use crate::ids::{MAX_SAFE_INTEGER, MessageId};
use crate::limits::{self, Feature, Limits};
use crate::text::Shape;
use serde_json::{Value, json};
use std::borrow::Cow;

/// The conversation and the arguments of a change, or the refusal.
type Read = Result<(ConversationRef, Arguments), Refusal>;

/// The budget of the user that a kind of change is charged to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meter {
    /// That of changes, or that of messages if it carries a new text.
    Change,
    /// That of read markers, of which an ordinary client sends many.
    Mark,
}

/// A kind of change.
pub struct ChangeKind {
    /// The command's name; its function in PostgreSQL is `mutate_<name>`.
    pub name: &'static str,
    /// Reads the fields.
    pub(super) read: fn(&mut Fields<'_>, &Limits) -> Read,
    /// The rate limit that it counts against.
    pub meter: Meter,
    /// The feature without which it is refused.
    pub feature: Option<Feature>,
}

impl ChangeKind {
    const fn new(name: &'static str, read: fn(&mut Fields<'_>, &Limits) -> Read) -> Self {
        Self { name, read, meter: Meter::Change, feature: None }
    }

    const fn charged_to(self, meter: Meter) -> Self {
        Self { meter, ..self }
    }

    const fn of(self, feature: Feature) -> Self {
        Self { feature: Some(feature), ..self }
    }
}

macro_rules! changes {
    ($($name:ident $(.$with:ident($($what:expr)?))*),* $(,)?) => {
        /// Every kind.
        pub const CHANGES: &[ChangeKind] = &[$(ChangeKind::new(stringify!($name), $name)$(.$with($($what)?))*,)*];
    };
}

changes! {
    create_conversation, join_conversation, leave_conversation, invite_member,
    mark_read.charged_to(Meter::Mark),
    edit_message, delete_message, pin_message.of(Feature::PinnedMessages),
    add_reaction.of(Feature::MessageReactions), remove_reaction.of(Feature::MessageReactions),
    follow_thread.of(Feature::MessageThreads),
    mark_thread_read.of(Feature::MessageThreads).charged_to(Meter::Mark),
    remove_member, set_role, transfer_ownership, mute_member, ban_member, unban_member,
    update_conversation, archive_conversation, create_invite, revoke_invite, join_by_invite,
    request_to_join, cancel_join_request, decide_join_request, block_user, unblock_user,
    accept_invitation, decline_invitation,
}

/// The index of a name in the table.
pub(super) fn row(name: &str) -> Option<usize> {
    CHANGES.iter().position(|kind| kind.name == name)
}

/// The conversation of a change of a message. A conversation from the client saves a look-up.
fn message(data: &mut Fields<'_>) -> Result<(ConversationRef, Arguments), Refusal> {
    let message = MessageId(data.required_id("message_id")?);
    let conversation =
        data.optional_conversation()?.map_or(ConversationRef::OfMessage(message), ConversationRef::Conversation);
    Ok((conversation, arguments(json!({ "message_id": message }))))
}

/// The conversation and the user of a change of a member.
fn member(data: &mut Fields<'_>) -> Result<(ConversationRef, Arguments), Refusal> {
    let conversation = ConversationRef::Conversation(data.conversation()?);
    Ok((conversation, arguments(json!({ "user_id": data.required_id("user_id")? }))))
}

fn arguments(value: Value) -> Arguments {
    match value {
        Value::Object(map) => map,
        _ => Arguments::new(),
    }
}

fn create_conversation(data: &mut Fields<'_>, _: &Limits) -> Read {
    let kind = data.required_text("kind")?;
    if !["direct", "group", "public_room", "private_room"].contains(&kind.as_ref()) {
        return Err(Refusal::bad_request("data.kind: Must be direct, group, public_room or private_room."));
    }
    let name = data.name("name", limits::CONVERSATION_NAME_CHARS_MAX)?;
    let description = description(data)?;
    let members = data.user_ids("member_ids", limits::CREATE_MEMBERS_MAX)?;
    match kind.as_ref() {
        "direct" if name.is_some() || description.is_some() => {
            return Err(Refusal::bad_request("data.name: A direct conversation has no name or description."));
        }
        "direct" if members.len() != 1 => {
            return Err(Refusal::bad_request("data.member_ids: A direct conversation needs exactly one other user."));
        }
        "public_room" | "private_room" if name.is_none() => {
            return Err(Refusal::bad_request("data.name: A room needs a name."));
        }
        _ => {}
    }
    let given = json!({ "kind": kind, "name": name, "description": description, "member_ids": members });
    Ok((ConversationRef::None, arguments(given)))
}

fn description<'a>(data: &mut Fields<'a>) -> Result<Option<Cow<'a, str>>, Refusal> {
    data.written_text("description", limits::CONVERSATION_DESCRIPTION_CHARS_MAX, Shape::Lines)
}

fn join_conversation(data: &mut Fields<'_>, _: &Limits) -> Read {
    Ok((ConversationRef::Conversation(data.conversation()?), Arguments::new()))
}

fn leave_conversation(data: &mut Fields<'_>, _: &Limits) -> Read {
    Ok((ConversationRef::Conversation(data.conversation()?), Arguments::new()))
}

fn invite_member(data: &mut Fields<'_>, _: &Limits) -> Read {
    member(data)
}

fn mark_read(data: &mut Fields<'_>, _: &Limits) -> Read {
    let conversation = ConversationRef::Conversation(data.conversation()?);
    Ok((conversation, arguments(json!({ "seq": data.required_integer("seq", 0, MAX_SAFE_INTEGER)? }))))
}

fn edit_message(data: &mut Fields<'_>, limits: &Limits) -> Read {
    let (conversation, mut given) = message(data)?;
    let kept = data.has("attachments").then(|| data.files()).transpose()?;
    let may_be_empty = kept.as_ref().is_some_and(|kept| !kept.is_empty());
    let most = limits.max_message_length;
    let content = if may_be_empty { data.caption(most)? } else { data.content(most)? };
    given.insert("content".to_owned(), json!(content));
    if let Some(kept) = kept {
        given.insert("attachments".to_owned(), json!(kept));
    }
    given.insert("window_s".to_owned(), json!(limits.message_edit_window_s));
    Ok((conversation, given))
}

fn delete_message(data: &mut Fields<'_>, _: &Limits) -> Read {
    message(data)
}

fn pin_message(data: &mut Fields<'_>, _: &Limits) -> Read {
    let (conversation, mut given) = message(data)?;
    given.insert("pinned".to_owned(), json!(data.required_bool("pinned")?));
    Ok((conversation, given))
}

fn add_reaction(data: &mut Fields<'_>, _: &Limits) -> Read {
    let (conversation, mut given) = message(data)?;
    given.insert("emoji".to_owned(), json!(emoji(&data.required_text("emoji")?)?));
    Ok((conversation, given))
}

fn remove_reaction(data: &mut Fields<'_>, limits: &Limits) -> Read {
    add_reaction(data, limits)
}

/// One emoji in its fully qualified form, so that its variants count as one; or a `:shortcode:` of the client.
pub(super) fn emoji(text: &str) -> Result<String, Refusal> {
    if let Some(known) = emojis::get(text) {
        return Ok(known.as_str().to_owned());
    }
    let code = text.strip_prefix(':').and_then(|rest| rest.strip_suffix(':'));
    let is_shortcode = code.is_some_and(|code| {
        (1..=32).contains(&code.len())
            && code.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'+' | b'-'))
    });
    if !is_shortcode {
        return Err(Refusal::bad_request(
            "data.emoji: Must be one emoji, or a :shortcode: of 1 to 32 characters a-z, 0-9, _, + and -.",
        ));
    }
    let named = code.and_then(emojis::get_by_shortcode).map(|known| known.as_str().to_owned());
    Ok(named.unwrap_or_else(|| text.to_owned()))
}

fn follow_thread(data: &mut Fields<'_>, _: &Limits) -> Read {
    let (conversation, mut given) = message(data)?;
    given.insert("following".to_owned(), json!(data.required_bool("following")?));
    Ok((conversation, given))
}

fn mark_thread_read(data: &mut Fields<'_>, _: &Limits) -> Read {
    let (conversation, mut given) = message(data)?;
    given.insert("seq".to_owned(), json!(data.required_integer("seq", 0, MAX_SAFE_INTEGER)?));
    Ok((conversation, given))
}

fn remove_member(data: &mut Fields<'_>, _: &Limits) -> Read {
    member(data)
}

fn set_role(data: &mut Fields<'_>, _: &Limits) -> Read {
    let (conversation, mut given) = member(data)?;
    let role = data.required_text("role")?;
    if !["admin", "moderator", "member", "read_only"].contains(&role.as_ref()) {
        return Err(Refusal::bad_request(
            "data.role: Must be admin, moderator, member or read_only. Send transfer_ownership to make another owner.",
        ));
    }
    given.insert("role".to_owned(), json!(role));
    Ok((conversation, given))
}

fn transfer_ownership(data: &mut Fields<'_>, _: &Limits) -> Read {
    member(data)
}

fn mute_member(data: &mut Fields<'_>, _: &Limits) -> Read {
    let (conversation, mut given) = member(data)?;
    given.insert("duration_s".to_owned(), json!(data.optional_integer("duration_s", 0, limits::MUTE_SECONDS_MAX)?));
    Ok((conversation, given))
}

fn ban_member(data: &mut Fields<'_>, _: &Limits) -> Read {
    let (conversation, mut given) = member(data)?;
    let reason = data.written_text("reason", limits::BAN_REASON_CHARS_MAX, Shape::Lines)?;
    given.insert("reason".to_owned(), json!(reason));
    Ok((conversation, given))
}

fn unban_member(data: &mut Fields<'_>, _: &Limits) -> Read {
    member(data)
}

fn update_conversation(data: &mut Fields<'_>, _: &Limits) -> Read {
    let conversation = ConversationRef::Conversation(data.conversation()?);
    let mut given = Arguments::new();
    if data.has("name") {
        let name = data.name("name", limits::CONVERSATION_NAME_CHARS_MAX)?;
        let name = name.ok_or_else(|| Refusal::bad_request("data.name: Must not be empty."))?;
        given.insert("name".to_owned(), json!(name));
    }
    if data.has("description") {
        given.insert("description".to_owned(), json!(description(data)?));
    }
    for (name, most) in [
        ("slow_mode_s", limits::SLOW_MODE_SECONDS_MAX),
        ("member_limit", limits::MEMBER_LIMIT_MAX),
        ("retention_days", limits::RETENTION_DAYS_MAX),
    ] {
        if let Some(number) = data.optional_integer(name, 0, most)? {
            given.insert(name.to_owned(), json!(number));
        }
    }
    if given.is_empty() {
        return Err(Refusal::bad_request(
            "data: Set at least one of name, description, slow_mode_s, member_limit and retention_days.",
        ));
    }
    Ok((conversation, given))
}

fn archive_conversation(data: &mut Fields<'_>, _: &Limits) -> Read {
    let conversation = ConversationRef::Conversation(data.conversation()?);
    let archived = !data.has("archived") || data.required_bool("archived")?;
    Ok((conversation, arguments(json!({ "archived": archived }))))
}

fn create_invite(data: &mut Fields<'_>, _: &Limits) -> Read {
    let conversation = ConversationRef::Conversation(data.conversation()?);
    let uses = data.optional_integer("max_uses", 1, limits::INVITE_USES_MAX)?;
    let seconds = data.optional_integer("expires_in_s", 1, limits::INVITE_SECONDS_MAX)?;
    Ok((conversation, arguments(json!({ "max_uses": uses, "expires_in_s": seconds }))))
}

fn revoke_invite(data: &mut Fields<'_>, _: &Limits) -> Read {
    let conversation = ConversationRef::Conversation(data.conversation()?);
    Ok((conversation, arguments(json!({ "code": invite_code(data)? }))))
}

fn join_by_invite(data: &mut Fields<'_>, _: &Limits) -> Read {
    let code = invite_code(data)?;
    Ok((ConversationRef::OfInvite(code.clone()), arguments(json!({ "code": code }))))
}

fn invite_code(data: &mut Fields<'_>) -> Result<String, Refusal> {
    let code = data.required_text("code")?;
    if code.is_empty() || code.len() > 64 || !code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    {
        return Err(Refusal::new(
            ErrorCode::NotFound,
            "data.code: This is not the code of an invitation. Ask for a new one.",
        ));
    }
    Ok(code.into_owned())
}

fn request_to_join(data: &mut Fields<'_>, _: &Limits) -> Read {
    let conversation = ConversationRef::Conversation(data.conversation()?);
    let text = data.written_text("text", limits::JOIN_REQUEST_CHARS_MAX, Shape::Lines)?;
    let text = text.as_deref().map(str::trim).filter(|text| !text.is_empty());
    Ok((conversation, arguments(json!({ "text": text }))))
}

fn cancel_join_request(data: &mut Fields<'_>, _: &Limits) -> Read {
    Ok((ConversationRef::Conversation(data.conversation()?), Arguments::new()))
}

fn accept_invitation(data: &mut Fields<'_>, _: &Limits) -> Read {
    Ok((ConversationRef::Conversation(data.conversation()?), Arguments::new()))
}

fn decline_invitation(data: &mut Fields<'_>, _: &Limits) -> Read {
    Ok((ConversationRef::Conversation(data.conversation()?), Arguments::new()))
}

fn decide_join_request(data: &mut Fields<'_>, _: &Limits) -> Read {
    let (conversation, mut given) = member(data)?;
    given.insert("accepted".to_owned(), json!(data.required_bool("accepted")?));
    Ok((conversation, given))
}

fn block_user(data: &mut Fields<'_>, _: &Limits) -> Read {
    Ok((ConversationRef::None, arguments(json!({ "user_id": data.required_id("user_id")? }))))
}

fn unblock_user(data: &mut Fields<'_>, limits: &Limits) -> Read {
    block_user(data, limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emoji_has_one_form() {
        for (given, kept) in [
            ("🚀", "🚀"),
            ("❤", "❤\u{fe0f}"), // without and with the variation selector it is the same heart
            ("❤\u{fe0f}", "❤\u{fe0f}"),
            ("👩‍👩‍👧", "👩‍👩‍👧"),
            ("👍🏽", "👍🏽"),
            ("🇫🇷", "🇫🇷"),
            (":rocket:", "🚀"),
            (":our-logo:", ":our-logo:"),
        ] {
            assert_eq!(emoji(given).as_deref(), Ok(kept), "{given}");
        }
        for wrong in [
            "",
            "a",
            "🚀🚀",
            "🚀 ",
            ":",
            "::",
            ":Upper:",
            ":with space:",
            "<b>",
            "1",
            ":waytoolongwaytoolongwaytoolongwaytoolong:",
        ] {
            assert_eq!(emoji(wrong).map_err(|r| r.code), Err(ErrorCode::BadRequest), "{wrong:?}");
        }
    }
}
