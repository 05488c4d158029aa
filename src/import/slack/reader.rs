//! The state of a reader, and the lists at the top of an export: users and conversations.

use super::objects::{SlackConversation, SlackProfile, SlackUser};
use super::text::{self, SlackNames};
use crate::import::contents::FoundContent;
use crate::import::fault::ImportFault;
use crate::import::model::{MemberRow, Model, RoomRow, RowPlace, Staged, UserRow, mark};
use crate::import::staged::{SinkClosed, StagedLines};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use time::OffsetDateTime;

/// Characters that are kept of a name of a user that `users.json` does not have.
const STRANGER_CHARS_MAX: usize = 100;

/// Says whether content of one of some names is there.
pub(in crate::import) type FindContent<'c> = &'c dyn Fn(&[String]) -> Option<FoundContent>;

/// What a file lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::import) enum List {
    Users,
    /// Conversations of a kind.
    Rooms(&'static str),
    /// Messages of the conversation of a folder.
    Messages,
}

/// What is known of the export while messages are read.
#[derive(Default)]
pub(super) struct SlackKnown {
    pub(super) users: HashMap<i64, String>,
    pub(super) admins: HashSet<i64>,
    /// Bots with an account.
    pub(super) bots: HashMap<String, i64>,
    /// Names of channels by their ids.
    pub(super) channels: HashMap<String, String>,
    /// Ids of conversations by the names of their folders.
    pub(super) folders: HashMap<String, String>,
    pub(super) pins: HashSet<i64>,
}

impl SlackNames for SlackKnown {
    fn user(&self, id: &str) -> (i64, String) {
        let user = user_id(id);
        (user, self.users.get(&user).cloned().unwrap_or_else(|| id.to_owned()))
    }

    fn channel(&self, id: &str) -> Option<String> {
        self.channels.get(id).cloned()
    }
}

/// A user that `users.json` does not have.
pub(super) struct Stranger {
    /// Where it was first seen.
    place: RowPlace,
    name: String,
    shown: Option<String>,
}

/// Makes rows of the model of the items of an export.
pub(in crate::import) struct SlackReader<'c, F> {
    pub(super) model: Model<F>,
    pub(super) find: FindContent<'c>,
    pub(super) known: SlackKnown,
    pub(super) strangers: BTreeMap<i64, Stranger>,
    pub(super) list: List,
    pub(super) folder: String,
}

pub(super) fn stopped(_: SinkClosed) -> ImportFault {
    ImportFault::Unfit("the import has stopped".to_owned())
}

pub(super) fn user_id(id: &str) -> i64 {
    mark("user", id)
}

pub(super) fn message_id(room: &str, ts: &str) -> i64 {
    mark("message", &format!("{room} {ts}"))
}

/// A time of Slack: seconds and up to six digits behind the point.
pub(super) fn parse_ts(ts: &str) -> Option<OffsetDateTime> {
    let (seconds, fraction) = ts.split_once('.').unwrap_or((ts, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.is_empty() || seconds.len() > 12 || fraction.len() > 6 || !is_number(seconds) || !is_number(fraction) {
        return None;
    }
    let micros: i128 = format!("{fraction:0<6}").parse().ok()?;
    let seconds: i128 = seconds.parse().ok()?;
    OffsetDateTime::from_unix_timestamp_nanos(seconds * 1_000_000_000 + micros * 1_000).ok()
}

/// An object, or why it is none. A text that is no JSON at all is `Err(Err(…))`.
pub(super) fn parse<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, Result<String, String>> {
    serde_json::from_str(text).map_err(|error| {
        let said = error.to_string();
        let said = said.split(" at line ").next().unwrap_or_default().to_owned();
        match error.classify() {
            serde_json::error::Category::Data => Ok(said),
            _ => Err(said),
        }
    })
}

impl<'c, F: FnMut(StagedLines) -> Result<(), SinkClosed>> SlackReader<'c, F> {
    /// `give` takes lines of staging tables.
    pub(in crate::import) fn new(give: F, find: FindContent<'c>) -> Self {
        let model = Model::new(give);
        Self {
            model,
            find,
            known: SlackKnown::default(),
            strangers: BTreeMap::new(),
            list: List::Users,
            folder: String::new(),
        }
    }

    pub(super) fn user(&mut self, place: RowPlace, user: SlackUser) -> Result<(), SinkClosed> {
        let id = user_id(&user.id);
        let profile = user.profile.unwrap_or_default();
        let name = [user.name, profile.name.clone()].into_iter().flatten().find(|name| !name.trim().is_empty());
        let name = name.unwrap_or_else(|| user.id.to_lowercase());
        self.known.users.entry(id).or_insert_with(|| name.clone());
        let is_admin = user.is_admin == Some(true) || user.is_owner == Some(true);
        if is_admin {
            self.known.admins.insert(id);
        }
        if let Some(bot) = &profile.bot_id {
            self.known.bots.insert(bot.clone(), id);
        }
        if user.is_restricted == Some(true) || user.is_ultra_restricted == Some(true) {
            let what = "it was a guest; here it is an ordinary user, who can join public rooms";
            self.model.changed(Staged::User, place, &name, what)?;
        }
        let row = UserRow {
            id,
            username: name,
            display_names: [profile.display_name, profile.real_name, user.real_name].into_iter().flatten().collect(),
            email: profile.email.filter(|email| !email.is_empty()),
            role: is_admin.then_some("admin"),
            avatar_url: profile.image_original.filter(|url| !url.is_empty()),
            bio: profile.title.filter(|title| !title.trim().is_empty()),
            is_active: user.deleted != Some(true),
            created_at: None,
        };
        self.model.user(place, &row)
    }

    /// Remembers a user that `users.json` does not have, and that writes or reacts. What describes it can come later.
    pub(super) fn stranger(&mut self, place: RowPlace, id: i64, name: &str, profile: Option<SlackProfile>) {
        if self.known.users.contains_key(&id) {
            return;
        }
        let cut = |text: String| text.chars().take(STRANGER_CHARS_MAX).collect::<String>();
        let found =
            self.strangers.entry(id).or_insert_with(|| Stranger { place, name: cut(name.to_owned()), shown: None });
        if let (None, Some(profile)) = (&found.shown, profile) {
            if let Some(name) = profile.name.filter(|name| !name.trim().is_empty()) {
                found.name = cut(name);
            }
            found.shown = profile.display_name.filter(|name| !name.trim().is_empty()).or(profile.real_name).map(cut);
        }
    }

    pub(super) fn stage_strangers(&mut self) -> Result<(), SinkClosed> {
        for (id, Stranger { place, name, shown }) in std::mem::take(&mut self.strangers) {
            let what = "it is not in users.json, and was made of what it wrote";
            self.model.changed(Staged::User, place, &name, what)?;
            let display_names = shown.into_iter().collect();
            let row = UserRow { id, username: name, display_names, is_active: true, ..UserRow::default() };
            self.model.user(place, &row)?;
        }
        Ok(())
    }

    pub(super) fn room(
        &mut self,
        place: RowPlace,
        kind: &'static str,
        room: SlackConversation,
    ) -> Result<(), SinkClosed> {
        let id = room.id;
        if id.trim().is_empty() {
            return self.model.reject(Staged::Room, place, "", "it has no id");
        }
        let name = room.name.filter(|name| !name.trim().is_empty());
        for folder in [Some(&id), name.as_ref()].into_iter().flatten() {
            self.known.folders.entry(folder.clone()).or_insert_with(|| id.clone());
        }
        if let Some(name) = &name {
            self.known.channels.insert(id.clone(), name.clone());
        }
        for pin in room.pins.into_iter().flatten() {
            if let Some(serde_json::Value::String(ts)) = pin.id {
                self.known.pins.insert(message_id(&id, &ts));
            }
        }
        let mut members = room.members.unwrap_or_default();
        members.sort_unstable();
        members.dedup();
        let mut kind = kind;
        if kind == "direct" && members.len() == 1 {
            kind = "group";
            self.model.changed(Staged::Room, place, &id, "notes to self became a group with one member")?;
        }
        // Somebody who has left a room does not come back as its owner.
        let creator = room.creator.filter(|creator| members.contains(creator));
        let about = [room.purpose, room.topic].into_iter().flatten().filter_map(|about| about.value);
        let about: Vec<String> = about
            .map(|about| text::written(&about, &self.known).into_plain())
            .filter(|about| !about.trim().is_empty())
            .collect();
        let is_room = kind.ends_with("_room");
        let row = RoomRow {
            id: id.clone(),
            kind,
            name: name.filter(|_| is_room),
            description: (is_room && !about.is_empty()).then(|| about.join("\n")),
            owner: creator.as_deref().filter(|_| kind != "direct").map(user_id),
            is_archived: room.is_archived == Some(true) && kind != "direct",
            created_at: room.created.filter(|at| *at > 0).and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok()),
            ..RoomRow::default()
        };
        self.model.room(place, &row)?;
        for member in members {
            let user = user_id(&member);
            let role = if self.known.admins.contains(&user) { "system_admin" } else { "member" };
            self.model.member(place, &MemberRow { room: id.clone(), user, role, joined_at: None, read_at: None })?;
        }
        Ok(())
    }
}
