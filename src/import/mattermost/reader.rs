//! The state of a reader, and the lines that are no posts: channels, users and their memberships, direct channels.

use super::lines::{BulkBot, BulkChannel, BulkDirectChannel, BulkTeam, BulkUser, BulkUserTeam};
use crate::import::contents::FoundContent;
use crate::import::fault::{ImportFault, UnreadableExport};
use crate::import::model::{MemberRow, Model, RoomRow, RowPlace, Staged, UserRow, from_millis, key_of, mark};
use crate::import::staged::{SinkClosed, StagedLines};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use time::OffsetDateTime;

/// Says whether content of one of some names is there.
pub(in crate::import) type FindContent<'c> = &'c dyn Fn(&[String]) -> Option<FoundContent>;

/// Makes rows of the model of the lines of an export.
pub(in crate::import) struct MattermostReader<'c, F> {
    pub(super) model: Model<F>,
    pub(super) find: FindContent<'c>,
    pub(super) has_version: bool,
    pub(super) teams: HashMap<String, String>,
    pub(super) users: HashSet<i64>,
    pub(super) directs: HashSet<String>,
    pub(super) posts: u64,
    pub(super) file: usize,
}

/// Why an object cannot be read.
pub(super) enum ParseFault {
    /// It is no JSON at all.
    Broken(String),
    /// Its fields are others.
    Fields(String),
}

pub(super) fn parse<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, ParseFault> {
    serde_json::from_str(text).map_err(|error| {
        // The place within the line helps nobody, and the message would have it.
        let said = error.to_string();
        let said = said.split(" at line ").next().unwrap_or_default().to_owned();
        match error.classify() {
            serde_json::error::Category::Data => ParseFault::Fields(said),
            _ => ParseFault::Broken(said),
        }
    })
}

pub(super) fn stopped(_: SinkClosed) -> ImportFault {
    ImportFault::Unfit("the import has stopped".to_owned())
}

pub(super) fn user_id(name: &str) -> i64 {
    mark("user", &name.trim().to_lowercase())
}

pub(super) fn has_role(roles: Option<&String>, role: &str) -> bool {
    roles.is_some_and(|roles| roles.split_whitespace().any(|found| found == role))
}

/// A time that may be absent, which 0 means too.
pub(super) fn time(millis: Option<i64>) -> Option<OffsetDateTime> {
    millis.filter(|millis| *millis > 0).and_then(from_millis)
}

impl<'c, F: FnMut(StagedLines) -> Result<(), SinkClosed>> MattermostReader<'c, F> {
    /// `give` takes lines of staging tables.
    pub(in crate::import) fn new(give: F, find: FindContent<'c>, file: Option<String>) -> Self {
        let mut model = Model::new(give);
        model.counts.files.extend(file);
        Self {
            model,
            find,
            has_version: false,
            teams: HashMap::new(),
            users: HashSet::new(),
            directs: HashSet::new(),
            posts: 0,
            file: 0,
        }
    }

    pub(super) fn fault(&self, line: u64, reason: impl Into<String>) -> ImportFault {
        let file = self.model.counts.files.first().cloned();
        UnreadableExport { file, item: Some(line), reason: reason.into() }.into()
    }

    pub(super) fn team(&mut self, team: BulkTeam) {
        let name = team.name.to_lowercase();
        let shown = team.display_name.filter(|name| !name.trim().is_empty()).unwrap_or(team.name);
        self.teams.insert(name, shown);
        self.model.left_out("lines of the type team");
    }

    pub(super) fn channel(&mut self, place: RowPlace, channel: &BulkChannel) -> Result<(), SinkClosed> {
        let id = room_id(&channel.team, &channel.name);
        let kind = match channel.kind.as_str() {
            "O" => "public_room",
            "P" => "private_room",
            other => {
                let why = format!("its type {other:?} is neither O nor P");
                return self.model.reject(Staged::Room, place, &id, &why);
            }
        };
        let shown = channel.display_name.as_deref().filter(|name| !name.trim().is_empty());
        let team = self.teams.get(&channel.team.to_lowercase()).unwrap_or(&channel.team);
        let about = [channel.purpose.as_deref(), channel.header.as_deref()];
        let about: Vec<&str> = about.into_iter().flatten().map(str::trim).filter(|text| !text.is_empty()).collect();
        let row = RoomRow {
            kind,
            name: Some(shown.unwrap_or(&channel.name).to_owned()),
            description: (!about.is_empty()).then(|| about.join("\n")),
            archived_at: time(channel.deleted_at),
            team: Some(team.clone()),
            id,
            ..RoomRow::default()
        };
        self.model.room(place, &row)
    }

    pub(super) fn user(&mut self, place: RowPlace, user: BulkUser) -> Result<(), SinkClosed> {
        let id = user_id(&user.username);
        self.users.insert(id);
        let name = user.username.as_str();
        let is_system_admin = has_role(user.roles.as_ref(), "system_admin");
        if let Some(service) = user.auth_service.as_deref().filter(|service| !service.is_empty()) {
            let service: String = service.chars().take(40).collect();
            let what = format!("it signed in through {service}; an operator must set a password");
            self.model.changed(Staged::User, place, name, &what)?;
        }
        if has_role(user.roles.as_ref(), "system_guest") {
            let what = "it was a guest; here it is an ordinary user, who can join public rooms";
            self.model.changed(Staged::User, place, name, what)?;
        }
        let full = [user.first_name.as_deref(), user.last_name.as_deref()];
        let full: Vec<&str> = full.into_iter().flatten().map(str::trim).filter(|part| !part.is_empty()).collect();
        let row = UserRow {
            id,
            username: user.username.trim().to_owned(),
            display_names: user.nickname.into_iter().chain([full.join(" ")]).collect(),
            email: user.email,
            role: is_system_admin.then_some("admin"),
            bio: user.position.filter(|position| !position.trim().is_empty()),
            is_active: time(user.delete_at).is_none(),
            ..UserRow::default()
        };
        self.model.user(place, &row)?;
        for team in user.teams.unwrap_or_default() {
            self.memberships(place, id, is_system_admin, &team)?;
        }
        Ok(())
    }

    pub(super) fn memberships(
        &mut self,
        place: RowPlace,
        user: i64,
        is_system_admin: bool,
        team: &BulkUserTeam,
    ) -> Result<(), SinkClosed> {
        let is_team_admin = has_role(team.roles.as_ref(), "team_admin");
        for channel in team.channels.iter().flatten() {
            let role = match has_role(channel.roles.as_ref(), "channel_admin") {
                true => "admin",
                false if is_team_admin => "team_admin",
                false if is_system_admin => "system_admin",
                false => "member",
            };
            let room = room_id(&team.name, &channel.name);
            let read_at = channel.last_viewed_at.and_then(|millis| from_millis(millis.max(0)));
            self.model.member(place, &MemberRow { room, user, role, read_at, joined_at: None })?;
        }
        Ok(())
    }

    pub(super) fn bot(&mut self, place: RowPlace, bot: BulkBot) -> Result<(), SinkClosed> {
        let id = user_id(&bot.username);
        self.users.insert(id);
        let row = UserRow {
            id,
            username: bot.username.trim().to_owned(),
            display_names: bot.display_name.into_iter().collect(),
            bio: bot.description.filter(|text| !text.trim().is_empty()),
            is_active: time(bot.delete_at).is_none(),
            ..UserRow::default()
        };
        self.model.user(place, &row)
    }

    pub(super) fn direct_channel(&mut self, place: RowPlace, channel: BulkDirectChannel) -> Result<(), SinkClosed> {
        let mut members: Vec<(String, Option<i64>)> = match channel.participants {
            Some(people) => people.into_iter().map(|person| (person.username, person.last_viewed_at)).collect(),
            None => channel.members.unwrap_or_default().into_iter().map(|name| (name, None)).collect(),
        };
        for (name, _) in &mut members {
            *name = name.trim().to_lowercase();
        }
        let (id, label) = direct_id(members.iter().map(|(name, _)| name.as_str()));
        if members.is_empty() {
            return self.model.reject(Staged::Room, place, &label, "it has no members");
        }
        if !self.directs.insert(id.clone()) {
            return self.model.reject(Staged::Room, place, &label, "a direct channel with these members came before");
        }
        let header = channel.header.filter(|text| !text.trim().is_empty());
        self.make_direct(place, &id, &label, &mut members, header)
    }

    /// Stages a direct conversation or a group, and its members.
    pub(super) fn make_direct(
        &mut self,
        place: RowPlace,
        id: &str,
        label: &str,
        members: &mut Vec<(String, Option<i64>)>,
        header: Option<String>,
    ) -> Result<(), SinkClosed> {
        members.sort_unstable();
        members.dedup_by(|a, b| a.0 == b.0);
        let kind = if members.len() == 2 { "direct" } else { "group" };
        if members.len() == 1 {
            self.model.changed(Staged::Room, place, label, "notes to self became a group with one member")?;
        } else if kind == "direct" && header.is_some() {
            self.model.changed(
                Staged::Room,
                place,
                label,
                "its header was left out: direct conversations have none",
            )?;
        }
        let row = RoomRow { id: id.to_owned(), kind, description: header, ..RoomRow::default() };
        self.model.room(place, &row)?;
        for (name, viewed) in members.iter() {
            let read_at = viewed.and_then(|millis| from_millis(millis.max(0)));
            let (room, user) = (id.to_owned(), user_id(name));
            self.model.member(place, &MemberRow { room, user, role: "member", read_at, joined_at: None })?;
        }
        Ok(())
    }
}

/// The id of a channel. A slash is in neither name.
pub(super) fn room_id(team: &str, channel: &str) -> String {
    format!("{}/{}", team.trim().to_lowercase(), channel.trim().to_lowercase())
}

/// The id and the label of a conversation that has only members.
pub(super) fn direct_id<'n>(members: impl Iterator<Item = &'n str>) -> (String, String) {
    let mut names: Vec<&str> = members.collect();
    names.sort_unstable();
    names.dedup();
    let label = names.iter().map(|name| format!("@{name}")).collect::<Vec<_>>().join(",");
    let shown: String = label.chars().take(200).collect();
    (format!("direct:{}", key_of(&names)), shown)
}
