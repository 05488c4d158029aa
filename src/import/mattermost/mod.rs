//! Mattermost's bulk format (`mmctl export`, `mattermost export bulk`): one object a line.
//!
//! ```text
//!   version                  must come first
//!   team, channel            → rooms; a room gets the name of its team where two have the same name
//!   user, bot                → users, and members of rooms with role and read marker
//!   post, direct_post        → messages with their replies, reactions and files
//!   direct_channel           → direct conversations and groups
//!   others                   counted, and left out
//! ```
//!
//! Posts have no ids in this format. A message is the same in two exports if channel, author and time are the same; of
//! several such messages with other texts, the first is the first. Usernames are references, so the number of a user is
//! made of the name.
//!
//! Pure: the caller reads the lines, and says whether content is there.

mod lines;
mod posts;
#[cfg(test)]
mod tests;
mod text;

use super::contents::FoundContent;
use super::fault::{ExportFault, ImportFault};
use super::model::{MemberRow, Model, Place, RoomRow, Staged, UserRow, from_millis, key_of, mark};
use super::staged::{DumpCounts, SinkClosed, StagedLines};
use lines::{Bot, Channel, DirectChannel, Line, Team, User, UserTeam};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use time::OffsetDateTime;

/// The version of the format.
const VERSION: i64 = 1;
/// Users and direct conversations that are remembered while the lines are read.
const REMEMBERED_MAX: usize = 5_000_000;
const TEAMS_MAX: usize = 100_000;

/// Says whether content of one of some names is there.
pub(super) type FindContent<'c> = &'c dyn Fn(&[String]) -> Option<FoundContent>;

/// Makes rows of the model of the lines of an export.
pub(super) struct MattermostReader<'c, F> {
    model: Model<F>,
    find: FindContent<'c>,
    has_version: bool,
    teams: HashMap<String, String>,
    users: HashSet<i64>,
    directs: HashSet<String>,
    posts: u64,
    file: usize,
}

/// Why an object cannot be read.
enum ParseFault {
    /// It is no JSON at all.
    Broken(String),
    /// Its fields are others.
    Fields(String),
}

fn parse<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, ParseFault> {
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

fn stopped(_: SinkClosed) -> ImportFault {
    ImportFault::Unfit("the import has stopped".to_owned())
}

fn user_id(name: &str) -> i64 {
    mark("user", &name.trim().to_lowercase())
}

fn has_role(roles: Option<&String>, role: &str) -> bool {
    roles.is_some_and(|roles| roles.split_whitespace().any(|found| found == role))
}

/// A time that may be absent, which 0 means too.
fn time(millis: Option<i64>) -> Option<OffsetDateTime> {
    millis.filter(|millis| *millis > 0).and_then(from_millis)
}

impl<'c, F: FnMut(StagedLines) -> Result<(), SinkClosed>> MattermostReader<'c, F> {
    /// `give` takes lines of staging tables.
    pub(super) fn new(give: F, find: FindContent<'c>, file: Option<String>) -> Self {
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

    /// Gives what is left.
    pub(super) fn finish(self) -> Result<DumpCounts, ImportFault> {
        if !self.has_version {
            return Err(self.fault(1, "the file has no line of the type version, so it is no export of Mattermost"));
        }
        self.model.finish().map_err(stopped)
    }

    fn fault(&self, line: u64, reason: impl Into<String>) -> ImportFault {
        let file = self.model.counts.files.first().cloned();
        ExportFault { file, item: Some(line), reason: reason.into() }.into()
    }

    /// Takes a line.
    pub(super) fn line(&mut self, number: u64, text: &str) -> Result<(), ImportFault> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(());
        }
        let line: Line<'_> = match parse(text) {
            Ok(line) => line,
            Err(ParseFault::Broken(said) | ParseFault::Fields(said)) => {
                return Err(self.fault(number, format!("this is no line of a bulk export: {said}")));
            }
        };
        if !self.has_version {
            if line.kind != "version" {
                return Err(self.fault(number, "the first line must have the type version"));
            }
            if line.version != Some(VERSION) {
                return Err(self.fault(number, format!("only version {VERSION} of the bulk format can be read")));
            }
            self.has_version = true;
            return Ok(());
        }
        let place = Place { file: self.file, line: number };
        let (object, staged) = match line.kind.as_str() {
            "team" => (line.team, None),
            "channel" => (line.channel, Some(Staged::Room)),
            "user" => (line.user, Some(Staged::User)),
            "bot" => (line.bot, Some(Staged::User)),
            "post" => (line.post, Some(Staged::Message)),
            "direct_channel" => (line.direct_channel, Some(Staged::Room)),
            "direct_post" => (line.direct_post, Some(Staged::Message)),
            "version" => return Err(self.fault(number, "a second line of the type version")),
            other => {
                let shown: String = other.chars().filter(|c| !c.is_control()).take(40).collect();
                self.model.left_out(&format!("lines of the type {shown}"));
                return Ok(());
            }
        };
        let Some(object) = object else {
            return Err(self.fault(number, format!("the line of the type {} has no {}", line.kind, line.kind)));
        };
        let object = object.get();
        let taken = match line.kind.as_str() {
            "team" => parse(object).map(|team| {
                self.team(team);
                Ok(())
            }),
            "channel" => parse(object).map(|channel| self.channel(place, &channel)),
            "user" => parse(object).map(|user| self.user(place, user)),
            "bot" => parse(object).map(|bot| self.bot(place, bot)),
            "direct_channel" => parse(object).map(|channel| self.direct_channel(place, channel)),
            _ => parse(object).map(|post| self.post(place, post)),
        };
        match taken {
            Ok(staged) => staged.map_err(stopped),
            Err(ParseFault::Broken(said)) => Err(self.fault(number, format!("this is no JSON: {said}"))),
            Err(ParseFault::Fields(said)) => match staged {
                Some(staged) => self.model.reject(staged, place, "", &said).map_err(stopped),
                None => Err(self.fault(number, format!("this {} cannot be read: {said}", line.kind))),
            },
        }
        .and_then(|()| self.check_memory(number))
    }

    fn check_memory(&self, number: u64) -> Result<(), ImportFault> {
        if self.users.len().max(self.directs.len()) > REMEMBERED_MAX || self.teams.len() > TEAMS_MAX {
            return Err(self.fault(number, "the export has more users, teams or direct channels than any server"));
        }
        Ok(())
    }

    fn team(&mut self, team: Team) {
        let name = team.name.to_lowercase();
        let shown = team.display_name.filter(|name| !name.trim().is_empty()).unwrap_or(team.name);
        self.teams.insert(name, shown);
        self.model.left_out("lines of the type team");
    }

    fn channel(&mut self, place: Place, channel: &Channel) -> Result<(), SinkClosed> {
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

    fn user(&mut self, place: Place, user: User) -> Result<(), SinkClosed> {
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

    fn memberships(
        &mut self,
        place: Place,
        user: i64,
        is_system_admin: bool,
        team: &UserTeam,
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

    fn bot(&mut self, place: Place, bot: Bot) -> Result<(), SinkClosed> {
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

    fn direct_channel(&mut self, place: Place, channel: DirectChannel) -> Result<(), SinkClosed> {
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
    fn make_direct(
        &mut self,
        place: Place,
        id: &str,
        label: &str,
        members: &mut Vec<(String, Option<i64>)>,
        header: Option<String>,
    ) -> Result<(), SinkClosed> {
        members.sort_unstable();
        members.dedup_by(|a, b| a.0 == b.0);
        let kind = if members.len() == 2 { "direct" } else { "group" };
        if members.len() == 1 {
            self.model.changed(Staged::Room, place, label, "messages to oneself became a group with one member")?;
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
fn room_id(team: &str, channel: &str) -> String {
    format!("{}/{}", team.trim().to_lowercase(), channel.trim().to_lowercase())
}

/// The id and the label of a conversation that has only members.
fn direct_id<'n>(members: impl Iterator<Item = &'n str>) -> (String, String) {
    let mut names: Vec<&str> = members.collect();
    names.sort_unstable();
    names.dedup();
    let label = names.iter().map(|name| format!("@{name}")).collect::<Vec<_>>().join(",");
    let shown: String = label.chars().take(200).collect();
    (format!("direct:{}", key_of(&names)), shown)
}
