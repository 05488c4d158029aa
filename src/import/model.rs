//! The model that exports of other servers become: users, conversations, members, messages, reactions and files, as
//! rows of the staging tables.
//!
//! The old systems have ids that are no numbers here. Each gets a number of 2^62 or more from [`mark`], which depends
//! on the old id only. So a second export of the same server has the same numbers, and no row keeps such a number as
//! its id. People read the `label` of a row instead.
//!
//! Pure: no I/O.

use super::convert::{clean_display, clean_name};
use super::staged::{CHUNK_BYTES, DumpCounts, SinkClosed, StagedLines, line_in, push_line};
use super::written::{MARK, MarkedText};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use time::format_description::FormatItem;
use time::macros::format_description;
use time::{Duration, OffsetDateTime};

/// The least number that stands for an id of an old system.
const MARKS_FROM: i64 = 1 << 62;
/// Bytes of the hash that is the key of a message.
const KEY_BYTES: usize = 16;
/// Bytes of a text that rows are found by.
const KEY_BYTES_MAX: usize = 500;
/// Between a part of a long message and the next one.
const PART_DISTANCE: Duration = Duration::microseconds(1);
const TIMESTAMP: &[FormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:6]+00");

/// The number of an old id. `what` keeps ids of different kinds apart.
pub(super) fn mark(what: &str, id: &str) -> i64 {
    let hash = hash(&[what, id]);
    let number = i64::from_be_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]]);
    MARKS_FROM | (number & (MARKS_FROM - 1))
}

/// A number that only its place in the export has.
pub(super) const fn counted(n: u64) -> i64 {
    MARKS_FROM | (n as i64 & (MARKS_FROM - 1))
}

/// A short key that depends on all parts.
pub(super) fn key_of(parts: &[&str]) -> String {
    URL_SAFE_NO_PAD.encode(&hash(parts)[..KEY_BYTES])
}

fn hash(parts: &[&str]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().into()
}

/// A user of an export.
#[derive(Clone, Default, Debug)]
pub(super) struct UserRow {
    pub(super) id: i64,
    pub(super) username: String,
    /// The first of these that shows something is the name that people see.
    pub(super) display_names: Vec<String>,
    pub(super) email: Option<String>,
    /// A role of the whole server, for the report.
    pub(super) role: Option<&'static str>,
    pub(super) avatar_url: Option<String>,
    pub(super) bio: Option<String>,
    pub(super) is_active: bool,
    pub(super) created_at: Option<OffsetDateTime>,
}

/// A conversation of an export.
#[derive(Clone, Default, Debug)]
pub(super) struct RoomRow {
    pub(super) id: String,
    /// `direct`, `group`, `public_room`, `private_room`.
    pub(super) kind: &'static str,
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) owner: Option<i64>,
    pub(super) archived_at: Option<OffsetDateTime>,
    pub(super) is_archived: bool,
    pub(super) created_at: Option<OffsetDateTime>,
    /// What the name gets where another room has the same one.
    pub(super) team: Option<String>,
}

/// A member of a conversation.
#[derive(Clone, Default, Debug)]
pub(super) struct MemberRow {
    pub(super) room: String,
    pub(super) user: i64,
    /// `admin`, `member`; or `team_admin` and `system_admin`, who are members that become the owner before others.
    pub(super) role: &'static str,
    pub(super) joined_at: Option<OffsetDateTime>,
    /// When the member has read everything.
    pub(super) read_at: Option<OffsetDateTime>,
}

/// A message.
#[derive(Clone, Debug)]
pub(super) struct MessageRow {
    pub(super) id: i64,
    /// What identifies the message in every export of the same server; `None` if `id` does.
    pub(super) slot: Option<String>,
    pub(super) label: String,
    pub(super) room: String,
    pub(super) author: i64,
    pub(super) text: MarkedText,
    pub(super) parent: Option<i64>,
    pub(super) is_deleted: bool,
    pub(super) is_pinned: bool,
    pub(super) created_at: OffsetDateTime,
    pub(super) edited_at: Option<OffsetDateTime>,
    /// Whether it has files whose content is there.
    pub(super) has_files: bool,
}

/// A reaction.
#[derive(Clone, Debug)]
pub(super) struct ReactionRow {
    pub(super) message: i64,
    pub(super) user: i64,
    pub(super) emoji: String,
    pub(super) created_at: Option<OffsetDateTime>,
    pub(super) label: String,
}

/// A file of a message.
#[derive(Clone, Debug)]
pub(super) struct FileRow {
    pub(super) id: i64,
    pub(super) message: i64,
    pub(super) uploader: i64,
    pub(super) name: String,
    /// Where its content is.
    pub(super) place: Option<String>,
    pub(super) size: Option<u64>,
    pub(super) media_type: Option<String>,
    pub(super) created_at: OffsetDateTime,
    pub(super) label: String,
}

/// Makes names of files the text of a message that has nothing else: no text, and no file whose content is there.
pub(super) fn name_files(text: &mut MarkedText, files: &[FileRow]) -> bool {
    if !text.is_empty() || files.is_empty() || files.iter().any(|file| file.place.is_some()) {
        return false;
    }
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    text.push_str(&names.join("\n"));
    true
}

/// The place of a row: the file of the export, and the line or item in it, from 1.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct RowPlace {
    pub(super) file: usize,
    pub(super) line: u64,
}

/// A staged table of the model: its name in the report, in the schema, its generation and its columns after `src` and
/// `line`.
struct ModelTable {
    name: &'static str,
    staging: &'static str,
    generation: u8,
    columns: &'static [&'static str],
}

const USERS: usize = 0;
const ROOMS: usize = 1;
const MEMBERS: usize = 2;
const MESSAGES: usize = 3;
const REACTIONS: usize = 4;
const FILES: usize = 5;
const QUARANTINE: usize = 6;
const MENDED: usize = 7;

const fn table(
    name: &'static str,
    staging: &'static str,
    generation: u8,
    columns: &'static [&'static str],
) -> ModelTable {
    ModelTable { name, staging, generation, columns }
}

const TABLES: [ModelTable; 8] = [
    table(
        "users",
        "s_users",
        1,
        &[
            "src",
            "line",
            "id",
            "username",
            "clean_name",
            "clean_display",
            "email",
            "role",
            "avatar_url",
            "bio",
            "is_active",
            "is_clean",
            "created_at",
            "label",
        ],
    ),
    table(
        "rooms",
        "s_rooms",
        4,
        &[
            "src",
            "line",
            "id",
            "kind",
            "name",
            "description",
            "owner",
            "is_archived",
            "created_at",
            "updated_at",
            "team",
        ],
    ),
    table("members", "s_members", 4, &["src", "line", "room", "user_id", "role", "joined_at", "has_marker", "read_at"]),
    table(
        "messages",
        "s_messages",
        4,
        &[
            "src",
            "line",
            "id",
            "author",
            "room",
            "content",
            "parent",
            "status",
            "is_pinned",
            "is_edited",
            "created_at",
            "edited_at",
            "slot",
            "label",
            "mentions",
            "has_files",
        ],
    ),
    table("reactions", "s_reactions", 1, &["src", "line", "message_id", "user_id", "emoji", "created_at", "label"]),
    table(
        "files",
        "s_files",
        1,
        &[
            "src",
            "line",
            "id",
            "uploader",
            "original_name",
            "place",
            "size",
            "media_type",
            "message_id",
            "created_at",
            "label",
        ],
    ),
    table("", "quarantine", 0, &["staged", "src", "line", "id", "reason"]),
    table("", "mended", 0, &["staged", "src", "line", "id", "what"]),
];

/// What a table of the model is called in reports.
pub(super) fn table_name(staged: &str) -> String {
    match staged {
        "rooms" => "conversations",
        other => other,
    }
    .to_owned()
}

/// What is staged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Staged {
    User,
    Room,
    Member,
    Message,
    Reaction,
    File,
}

impl Staged {
    const fn at(self) -> usize {
        match self {
            Self::User => USERS,
            Self::Room => ROOMS,
            Self::Member => MEMBERS,
            Self::Message => MESSAGES,
            Self::Reaction => REACTIONS,
            Self::File => FILES,
        }
    }
}

/// Takes rows of the model, and gives lines of staging tables.
pub(super) struct Model<F> {
    give: F,
    lines: [Vec<u8>; 8],
    /// What was read so far.
    pub(super) counts: DumpCounts,
}

impl<F: FnMut(StagedLines) -> Result<(), SinkClosed>> Model<F> {
    /// `give` takes lines. An error of it ends the reading.
    pub(super) fn new(give: F) -> Self {
        Self { give, lines: Default::default(), counts: DumpCounts::default() }
    }

    /// Gives what is left.
    pub(super) fn finish(mut self) -> Result<DumpCounts, SinkClosed> {
        for at in 0..TABLES.len() {
            self.give_lines(at, 0)?;
        }
        Ok(self.counts)
    }

    fn give_lines(&mut self, at: usize, least: usize) -> Result<(), SinkClosed> {
        if self.lines[at].len() <= least {
            return Ok(());
        }
        let table = &TABLES[at];
        let lines = std::mem::take(&mut self.lines[at]);
        (self.give)(StagedLines { table: table.staging, columns: table.columns.to_vec(), lines })
    }

    fn push(&mut self, at: usize, values: &[Option<&str>]) -> Result<(), SinkClosed> {
        push_line(&mut self.lines[at], values);
        self.give_lines(at, CHUNK_BYTES)
    }

    /// Counts a row of something that is not imported.
    pub(super) fn left_out(&mut self, what: &str) {
        *self.counts.other_rows.entry(what.to_owned()).or_default() += 1;
    }

    /// Counts a row and rejects it.
    pub(super) fn reject(&mut self, staged: Staged, place: RowPlace, id: &str, why: &str) -> Result<(), SinkClosed> {
        self.count(staged);
        self.remark(QUARANTINE, staged, place, id, why)
    }

    /// Says what was changed in a row.
    pub(super) fn changed(&mut self, staged: Staged, place: RowPlace, id: &str, what: &str) -> Result<(), SinkClosed> {
        self.remark(MENDED, staged, place, id, what)
    }

    fn remark(&mut self, at: usize, staged: Staged, place: RowPlace, id: &str, why: &str) -> Result<(), SinkClosed> {
        let table = &TABLES[staged.at()];
        let line = line_in(place.file, place.line).to_string();
        // Ids and reasons of rejected rows may hold anything.
        let (id, why) = (without_controls(id), without_controls(why));
        self.push(at, &[Some(table.name), Some(&table.generation.to_string()), Some(&line), Some(&id), Some(&why)])
    }

    fn count(&mut self, staged: Staged) {
        let table = &TABLES[staged.at()];
        *self.counts.rows.entry((table.name, table.generation)).or_default() += 1;
    }

    /// Stages a row, or rejects it where a text cannot be stored.
    fn stage(
        &mut self,
        staged: Staged,
        place: RowPlace,
        id: &str,
        keys: &[Option<&str>],
        values: &[Option<&str>],
    ) -> Result<(), SinkClosed> {
        if keys.iter().flatten().any(|key| key.len() > KEY_BYTES_MAX) {
            return self.reject(staged, place, id, &format!("a name or id is longer than {KEY_BYTES_MAX} bytes"));
        }
        if keys.iter().chain(values).flatten().any(|value| value.contains('\0')) {
            return self.reject(staged, place, id, "a text has a NUL, which no text can have");
        }
        self.count(staged);
        let generation = TABLES[staged.at()].generation.to_string();
        let line = line_in(place.file, place.line).to_string();
        let all: Vec<Option<&str>> =
            [Some(generation.as_str()), Some(&line)].into_iter().chain(values.iter().copied()).collect();
        self.push(staged.at(), &all)
    }

    /// Stages a user.
    pub(super) fn user(&mut self, place: RowPlace, row: &UserRow) -> Result<(), SinkClosed> {
        let (id, clean) = (row.id.to_string(), clean_name(&row.username));
        let mut names = row.display_names.iter().chain([&row.username]).map(|name| clean_display(name));
        let display = names.find_map(|name| name).unwrap_or_else(|| "user".to_owned());
        let is_clean = flag(clean == row.username);
        let created = row.created_at.and_then(timestamp);
        let values = [
            Some(id.as_str()),
            Some(&row.username),
            Some(&clean),
            Some(&display),
            row.email.as_deref(),
            row.role,
            row.avatar_url.as_deref(),
            row.bio.as_deref(),
            flag(row.is_active),
            is_clean,
            created.as_deref(),
            Some(&row.username),
        ];
        self.stage(Staged::User, place, &row.username, &[Some(&row.username), row.email.as_deref()], &values)
    }

    /// Stages a conversation.
    pub(super) fn room(&mut self, place: RowPlace, row: &RoomRow) -> Result<(), SinkClosed> {
        let owner = row.owner.map(|owner| owner.to_string());
        let (created, archived) = (row.created_at.and_then(timestamp), row.archived_at.and_then(timestamp));
        let values = [
            Some(row.id.as_str()),
            Some(row.kind),
            row.name.as_deref(),
            row.description.as_deref(),
            owner.as_deref(),
            flag(row.is_archived || row.archived_at.is_some()),
            created.as_deref(),
            archived.as_deref(),
            row.team.as_deref(),
        ];
        self.stage(Staged::Room, place, &row.id, &[Some(&row.id), row.name.as_deref()], &values)
    }

    /// Stages a member.
    pub(super) fn member(&mut self, place: RowPlace, row: &MemberRow) -> Result<(), SinkClosed> {
        let (user, joined) = (row.user.to_string(), row.joined_at.and_then(timestamp));
        let read = row.read_at.and_then(timestamp);
        let values =
            [Some(row.room.as_str()), Some(&user), Some(row.role), joined.as_deref(), flag(false), read.as_deref()];
        self.stage(Staged::Member, place, &row.room, &[Some(&row.room)], &values)
    }

    /// Stages a message. A text that is too long becomes several messages. Returns how many.
    pub(super) fn message(&mut self, place: RowPlace, row: MessageRow) -> Result<usize, SinkClosed> {
        if row.text.has_dropped {
            self.changed(Staged::Message, place, &row.label, "control characters were left out of its text")?;
        }
        let parts = if row.is_deleted { vec![MarkedText::default()] } else { row.text.split() };
        let count = parts.len();
        if count > 1 {
            let what =
                format!("its text is longer than {} characters; it became {count} messages", super::written::CHARS_MAX);
            self.changed(Staged::Message, place, &row.label, &what)?;
        }
        for (n, text) in parts.into_iter().enumerate() {
            let is_first = n == 0;
            let id = if is_first { row.id } else { mark("part", &format!("{} {n}", row.id)) };
            let slot =
                row.slot.as_ref().map(|slot| if is_first { slot.clone() } else { key_of(&[slot, &n.to_string()]) });
            let Some(created) = timestamp(row.created_at + PART_DISTANCE * n as i32) else {
                self.reject(Staged::Message, place, &row.label, "its time is out of range")?;
                continue;
            };
            let (id, author) = (id.to_string(), row.author.to_string());
            let parent = row.parent.map(|parent| parent.to_string());
            let edited = row.edited_at.and_then(timestamp);
            let mentions = (!text.mentions.is_empty()).then(|| text.mentions.join(" "));
            let values = [
                Some(id.as_str()),
                Some(&author),
                Some(&row.room),
                Some(&text.content),
                parent.as_deref(),
                row.is_deleted.then_some("deleted"),
                flag(row.is_pinned && is_first),
                flag(edited.is_some()),
                Some(&created),
                edited.as_deref(),
                slot.as_deref(),
                Some(&row.label),
                mentions.as_deref(),
                flag(row.has_files && is_first),
            ];
            self.stage(Staged::Message, place, &row.label, &[Some(&row.room)], &values)?;
        }
        Ok(count)
    }

    /// Stages a reaction.
    pub(super) fn reaction(&mut self, place: RowPlace, row: &ReactionRow) -> Result<(), SinkClosed> {
        let (message, user) = (row.message.to_string(), row.user.to_string());
        let created = row.created_at.and_then(timestamp);
        let values =
            [Some(message.as_str()), Some(&user), Some(&row.emoji), created.as_deref(), Some(row.label.as_str())];
        self.stage(Staged::Reaction, place, &row.label, &[Some(&row.emoji)], &values)
    }

    /// Stages a file.
    pub(super) fn file(&mut self, place: RowPlace, row: &FileRow) -> Result<(), SinkClosed> {
        let (id, message, uploader) = (row.id.to_string(), row.message.to_string(), row.uploader.to_string());
        let (size, created) = (row.size.map(|size| size.to_string()), timestamp(row.created_at));
        let values = [
            Some(id.as_str()),
            Some(&uploader),
            Some(&row.name),
            Some(row.place.as_deref().unwrap_or_default()),
            size.as_deref(),
            row.media_type.as_deref(),
            Some(&message),
            created.as_deref(),
            Some(&row.label),
        ];
        self.stage(Staged::File, place, &row.label, &[], &values)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a value of a line is optional")]
const fn flag(is_true: bool) -> Option<&'static str> {
    Some(if is_true { "t" } else { "f" })
}

fn without_controls(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || *c == MARK).filter(|c| *c != MARK).take(300).collect()
}

/// A time as PostgreSQL reads it; `None` outside of the years 1 to 9999.
fn timestamp(time: OffsetDateTime) -> Option<String> {
    (1..=9999).contains(&time.year()).then(|| time.format(TIMESTAMP).ok())?
}

/// A time in milliseconds since 1970.
pub(super) fn from_millis(millis: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_the_same_again_and_are_no_ids() {
        assert_eq!(mark("user", "ann"), mark("user", "ann"));
        assert_ne!(mark("user", "ann"), mark("post", "ann"));
        assert!((0..1000).all(|n| mark("user", &n.to_string()) >= MARKS_FROM));
        assert_ne!(key_of(&["a", "bc"]), key_of(&["ab", "c"]));
    }

    #[test]
    fn times_have_microseconds() {
        assert_eq!(timestamp(from_millis(1_700_000_000_123).unwrap()).unwrap(), "2023-11-14 22:13:20.123000+00");
        assert!(from_millis(i64::MAX).is_none());
    }
}
