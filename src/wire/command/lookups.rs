//! The table of look-ups: each is checked here and executed by `read_<name>` in PostgreSQL, under the row level
//! security of the user.

use super::arguments::Arguments;
use super::changes;
use super::fields::Fields;
use crate::error::Refusal;
use crate::ids::MAX_SAFE_INTEGER;
use crate::limits::{self, LIST_PAGE_MAX};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A kind of look-up.
pub struct LookupKind {
    /// The command's name; its function in PostgreSQL is `read_<name>`.
    pub name: &'static str,
    /// Reads the fields.
    pub(super) read: fn(&mut Fields<'_>) -> Result<Arguments, Refusal>,
}

macro_rules! lookups {
    ($($name:ident),* $(,)?) => {
        /// Every kind.
        pub const LOOKUPS: &[LookupKind] = &[$(LookupKind { name: stringify!($name), read: $name },)*];
    };
}

lookups! {
    get_thread, list_threads, list_edits, list_pins, list_reactions, list_mentions, list_bans, list_invites,
    list_join_requests, list_blocks, list_public_rooms, search_messages, list_invitations,
}

/// The index of a name in the table.
pub(super) fn row(name: &str) -> Option<usize> {
    LOOKUPS.iter().position(|kind| kind.name == name)
}

type Read = Result<Arguments, Refusal>;

/// Arguments under construction, named as in PostgreSQL.
#[derive(Default)]
struct Given(Arguments);

impl Given {
    fn put(mut self, name: &str, value: impl serde::Serialize) -> Self {
        self.0.insert(name.to_owned(), json!(value));
        self
    }

    fn message(self, data: &mut Fields<'_>) -> Result<Self, Refusal> {
        let given = self.put("message_id", data.required_id("message_id")?);
        given.optional_conversation(data)
    }

    fn conversation(self, data: &mut Fields<'_>) -> Result<Self, Refusal> {
        Ok(self.put("conversation", data.conversation()?.number()))
    }

    fn optional_conversation(self, data: &mut Fields<'_>) -> Result<Self, Refusal> {
        Ok(match data.optional_conversation()? {
            Some(conversation) => self.put("conversation", conversation.number()),
            None => self,
        })
    }

    fn integer(self, data: &mut Fields<'_>, name: &str) -> Result<Self, Refusal> {
        Ok(match data.optional_integer(name, 0, MAX_SAFE_INTEGER)? {
            Some(number) => self.put(name, number),
            None => self,
        })
    }

    /// A cursor of a time and a message, from `next_cursor` of an earlier page.
    fn time_cursor(self, data: &mut Fields<'_>) -> Result<Self, Refusal> {
        let Some(cursor) = data.optional_text("cursor")? else { return Ok(self) };
        let parts =
            cursor.split_once('.').and_then(|(us, id)| Some((us.parse::<i64>().ok()?, id.parse::<i64>().ok()?)));
        let parts = parts.filter(|(us, id)| (0..=TIME_US_MAX).contains(us) && (0..=MAX_SAFE_INTEGER).contains(id));
        let (us, id) =
            parts.ok_or_else(|| Refusal::bad_request("data.cursor: Must be the next_cursor of an earlier page."))?;
        Ok(self.put("cursor_us", us).put("cursor_id", id))
    }

    fn limit(self, data: &mut Fields<'_>, default: i64, most: i64) -> Result<Self, Refusal> {
        Ok(self.put("limit", data.limit(default, most)?))
    }
}

fn get_thread(data: &mut Fields<'_>) -> Read {
    let given = Given::default().message(data)?.integer(data, "before_seq")?.integer(data, "after_seq")?;
    if given.0.contains_key("before_seq") && given.0.contains_key("after_seq") {
        return Err(Refusal::bad_request("data: Set at most one of before_seq and after_seq."));
    }
    Ok(given.limit(data, limits::HISTORY_PAGE_DEFAULT, limits::HISTORY_PAGE_MAX)?.0)
}

fn list_threads(data: &mut Fields<'_>) -> Read {
    let given = Given::default().optional_conversation(data)?.time_cursor(data)?;
    Ok(given.limit(data, 50, limits::SEARCH_PAGE_MAX)?.0)
}

fn list_edits(data: &mut Fields<'_>) -> Read {
    Ok(Given::default().message(data)?.0)
}

fn list_pins(data: &mut Fields<'_>) -> Read {
    Ok(Given::default().conversation(data)?.0)
}

fn list_reactions(data: &mut Fields<'_>) -> Read {
    let given = Given::default().message(data)?.limit(data, 50, LIST_PAGE_MAX)?;
    Ok(match data.optional_text("emoji")? {
        Some(text) => given.put("emoji", changes::emoji(&text)?).0,
        None => given.0,
    })
}

fn list_mentions(data: &mut Fields<'_>) -> Read {
    Ok(Given::default().optional_conversation(data)?.integer(data, "cursor")?.limit(data, 50, LIST_PAGE_MAX)?.0)
}

fn list_bans(data: &mut Fields<'_>) -> Read {
    Ok(Given::default().conversation(data)?.0)
}

fn list_invites(data: &mut Fields<'_>) -> Read {
    Ok(Given::default().conversation(data)?.0)
}

fn list_join_requests(data: &mut Fields<'_>) -> Read {
    Ok(Given::default().optional_conversation(data)?.0)
}

#[allow(clippy::unnecessary_wraps)] // a row of the table as any other
fn list_invitations(_: &mut Fields<'_>) -> Read {
    Ok(Arguments::new())
}

#[allow(clippy::unnecessary_wraps)] // a row of the table as any other
fn list_blocks(_: &mut Fields<'_>) -> Read {
    Ok(Arguments::new())
}

fn list_public_rooms(data: &mut Fields<'_>) -> Read {
    let given = Given::default().integer(data, "cursor")?.limit(data, 50, LIST_PAGE_MAX)?;
    Ok(match data.bounded_text("query", limits::CONVERSATION_NAME_CHARS_MAX)? {
        Some(text) if !text.trim().is_empty() => given.put("query", text.trim()).0,
        _ => given.0,
    })
}

fn search_messages(data: &mut Fields<'_>) -> Read {
    let query = data.bounded_text("query", limits::SEARCH_QUERY_CHARS_MAX)?.unwrap_or_default();
    let mut given = match query.trim() {
        "" => Given::default(),
        query => Given::default().put("query", query),
    };
    given = given.optional_conversation(data)?;
    if let Some(user) = data.optional_id("from_user_id")? {
        given = given.put("from_user_id", user);
    }
    for name in ["before", "after"] {
        if let Some(time) = data.optional_text(name)? {
            given = given.put(name, time_of(name, &time)?);
        }
    }
    match data.optional_text("has")?.as_deref() {
        None => {}
        Some(kind @ ("link" | "file" | "image")) => given = given.put("has", kind),
        Some(_) => return Err(Refusal::bad_request("data.has: Must be link, file or image.")),
    }
    // Without a query only messages with files can be found: an index has them.
    let finds_files = matches!(given.0.get("has").and_then(|has| has.as_str()), Some("file" | "image"));
    if !given.0.contains_key("query") && !finds_files {
        let message = "data.query: This field is missing or empty. Without it, data.has must be file or image.";
        return Err(Refusal::bad_request(message));
    }
    Ok(given.time_cursor(data)?.limit(data, 50, limits::SEARCH_PAGE_MAX)?.0)
}

/// The end of the year 9999 in microseconds of Unix time.
const TIME_US_MAX: i64 = 253_402_300_799_999_999;

/// A time of RFC 3339 in the form that PostgreSQL reads.
fn time_of(name: &str, text: &str) -> Result<String, Refusal> {
    let parsed = OffsetDateTime::parse(text, &Rfc3339).ok();
    // Checked, because `to_offset` panics when the offset moves a time out of the calendar.
    let utc = parsed.and_then(|time| time.checked_to_offset(time::UtcOffset::UTC));
    let utc = utc.filter(|time| (1970..=9999).contains(&time.year())).and_then(|time| time.format(&Rfc3339).ok());
    utc.ok_or_else(|| {
        Refusal::bad_request(format!("data.{name}: Must be a time in RFC 3339, such as 2026-01-31T12:00:00Z."))
    })
}
