//! The whole server in Mattermost's bulk format. The lines have the order that its importer needs: version, team,
//! channels, users, posts, direct channels, direct posts.

use super::fault::ExportFault;
use super::names::{Taken, cut};
use super::output::Output;
use super::report::ExportReport;
use super::thread::{Post, PostPlace, Thread};
use crate::files::store::Store;
use crate::import::emoji;
use crate::storage::export::{ExportSession, ExportedConversation, ExportedMembership, ExportedMessage, ExportedUser};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::io;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Limits of Mattermost, in characters.
const MESSAGE_CHARS_MAX: usize = 16_383;
const DISPLAY_CHARS_MAX: usize = 64;
const PURPOSE_CHARS_MAX: usize = 250;
const HEADER_CHARS_MAX: usize = 1_024;
const POSITION_CHARS_MAX: usize = 128;
const EMOJI_CHARS_MAX: usize = 64;
/// Members of a group there, which has neither a name nor roles.
const GROUP_MEMBERS: std::ops::RangeInclusive<usize> = 3..=8;
const DELETED: &str = "(message deleted)";

/// What an export is given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportOptions {
    /// The name of the team that gets everything.
    pub team: String,
    /// Whether to write the content of attachments.
    pub has_files: bool,
}

/// A conversation that has messages to write.
struct PostedConversation {
    id: i64,
    place: PostPlace,
}

/// What is known while lines are written.
struct Exporter<'e> {
    options: &'e ExportOptions,
    output: &'e mut Output,
    report: ExportReport,
    users: HashMap<i64, String>,
    channels: HashMap<i64, String>,
    now: i64,
}

/// Writes everything that the session reads. `shown` learns how many messages are written.
///
/// # Errors
/// [`ExportFault`]. The output is to be discarded then.
pub async fn export_mattermost(
    session: &ExportSession,
    store: &Store,
    options: &ExportOptions,
    output: &mut Output,
    mut shown: impl FnMut(u64),
) -> Result<ExportReport, ExportFault> {
    let now = OffsetDateTime::now_utc();
    let millis = (now.unix_timestamp_nanos() / 1_000_000) as i64;
    let (report, users, channels) = (ExportReport::default(), HashMap::new(), HashMap::new());
    let mut exporter = Exporter { options, output, report, users, channels, now: millis };
    exporter.line(&json!({"type": "version", "version": 1, "info": {"generator": "veza chat-server",
        "version": env!("CARGO_PKG_VERSION"), "created": now.format(&Rfc3339).unwrap_or_default()}}))?;
    exporter.line(&json!({"type": "team", "team": {"name": options.team, "display_name": options.team, "type": "I",
        "description": "", "allow_open_invite": false}}))?;
    exporter.names(session).await?;
    let (rooms, directs) = exporter.conversations(session).await?;
    exporter.user_lines(session).await?;
    exporter.posts(session, &rooms, &mut shown).await?;
    for (_, line) in &directs {
        exporter.line(line)?;
        exporter.report.count("direct channels");
    }
    let directs: Vec<PostedConversation> = directs.into_iter().map(|(place, _)| place).collect();
    exporter.posts(session, &directs, &mut shown).await?;
    if options.has_files {
        exporter.files(session, store).await?;
    }
    Ok(exporter.report)
}

impl Exporter<'_> {
    fn line(&mut self, line: &impl serde::Serialize) -> Result<(), ExportFault> {
        self.output.line(line)
    }

    async fn names(&mut self, session: &ExportSession) -> Result<(), ExportFault> {
        let mut taken = Taken::default();
        let (users, report) = (&mut self.users, &mut self.report);
        let each = |(id, ours): (i64, String)| {
            let name = taken.user(&ours, id);
            if name != ours.to_ascii_lowercase() {
                report.note("usernames became others, because Mattermost does not allow them");
            } else if name != ours {
                report.note("usernames are in lower case");
            }
            users.insert(id, name);
            Ok::<(), ExportFault>(())
        };
        session.usernames(each).await
    }

    /// Writes the channels. Returns the conversations with their messages, and those of members with their lines.
    async fn conversations(
        &mut self,
        session: &ExportSession,
    ) -> Result<(Vec<PostedConversation>, Vec<(PostedConversation, Value)>), ExportFault> {
        let (mut taken, mut groups) = (Taken::default(), HashSet::new());
        let (mut rooms, mut directs) = (Vec::new(), Vec::new());
        let each = |found: ExportedConversation| {
            if let Some((members, line)) = self.direct(&found, &mut groups) {
                directs.push((PostedConversation { id: found.id, place: PostPlace::Members(members) }, line));
                return Ok(());
            }
            let place = self.channel(&found, &mut taken)?;
            rooms.push(PostedConversation { id: found.id, place });
            Ok::<(), ExportFault>(())
        };
        session.conversations(each).await?;
        Ok((rooms, directs))
    }

    /// The members and the line of a conversation that becomes a direct channel.
    fn direct(
        &mut self,
        found: &ExportedConversation,
        groups: &mut HashSet<Vec<String>>,
    ) -> Option<(Vec<String>, Value)> {
        if found.kind != "direct" && found.kind != "group" {
            return None;
        }
        let members: Vec<(i64, i64)> = found.members.as_deref().and_then(|text| serde_json::from_str(text).ok())?;
        let is_direct = found.kind == "direct";
        if !is_direct && !GROUP_MEMBERS.contains(&members.len()) {
            self.report.note("groups became private channels, because a group has 3 to 8 members there");
            return None;
        }
        let people: Vec<(&String, i64)> =
            members.iter().filter_map(|(user, read)| Some((self.users.get(user)?, *read))).collect();
        let mut names: Vec<String> = people.iter().map(|(name, _)| (*name).clone()).collect();
        names.sort_unstable();
        if !is_direct && !groups.insert(names.clone()) {
            self.report.note("groups became private channels, because another group has the same members");
            return None;
        }
        if found.name.is_some() {
            self.report.note("names of groups became their headers, because groups have no names there");
        }
        let header = [found.name.as_deref(), found.description.as_deref()];
        let header = header.into_iter().flatten().collect::<Vec<_>>().join("\n");
        let participants: Vec<Value> =
            people.iter().map(|(name, read)| json!({"username": name, "last_viewed_at": read})).collect();
        let line = json!({"type": "direct_channel", "direct_channel": {"members": names, "participants": participants,
            "favorited_by": [], "header": self.cut(&header, HEADER_CHARS_MAX, "headers")}});
        Some((names, line))
    }

    fn channel(&mut self, found: &ExportedConversation, taken: &mut Taken) -> Result<PostPlace, ExportFault> {
        let is_public = found.kind == "public_room";
        let shown = found.name.clone().unwrap_or_else(|| format!("Group {}", found.id));
        let name = taken.channel(&shown, found.id, is_public);
        let about = found.description.as_deref().unwrap_or_default();
        let is_short = about.chars().count() <= PURPOSE_CHARS_MAX;
        let (purpose, header) = if is_short { (about, "") } else { ("", about) };
        let mut channel = json!({"team": self.options.team, "name": name, "type": if is_public { "O" } else { "P" },
            "display_name": self.cut(&shown, DISPLAY_CHARS_MAX, "names of channels"), "purpose": purpose,
            "header": self.cut(header, HEADER_CHARS_MAX, "headers")});
        if let Some(archived_at) = found.archived_at {
            channel["deleted_at"] = archived_at.into();
        }
        self.line(&json!({"type": "channel", "channel": channel}))?;
        self.report.count("channels");
        self.channels.insert(found.id, name.clone());
        Ok(PostPlace::Channel { team: self.options.team.clone(), channel: name })
    }

    fn cut(&mut self, text: &str, chars_max: usize, what: &str) -> String {
        let (text, is_cut) = cut(text, chars_max);
        if is_cut {
            self.report.note(format!("{what} were cut to {chars_max} characters"));
        }
        text
    }

    async fn user_lines(&mut self, session: &ExportSession) -> Result<(), ExportFault> {
        let mut reading: Option<(ExportedUser, Vec<Value>)> = None;
        let each = |(user, membership): (ExportedUser, Option<ExportedMembership>)| {
            if let Some((known, channels)) = reading.take_if(|(known, _)| known.id != user.id) {
                self.user_line(&known, &channels)?;
            }
            let (_, channels) = reading.get_or_insert_with(|| (user, Vec::new()));
            if let Some(membership) = membership {
                channels.extend(self.membership(&membership));
            }
            Ok::<(), ExportFault>(())
        };
        session.users(each).await?;
        if let Some((user, channels)) = reading {
            self.user_line(&user, &channels)?;
        }
        Ok(())
    }

    fn membership(&mut self, membership: &ExportedMembership) -> Option<Value> {
        let name = self.channels.get(&membership.conversation)?;
        let roles = match membership.role.as_str() {
            "owner" | "admin" => "channel_user channel_admin",
            "member" => "channel_user",
            other => {
                self.report.note(format!("members with the role {other} are ordinary members there"));
                "channel_user"
            }
        };
        Some(json!({"name": name, "roles": roles, "last_viewed_at": membership.read_at,
            "notify_props": {"desktop": "default", "mobile": "default", "mark_unread": "all"}}))
    }

    fn user_line(&mut self, user: &ExportedUser, channels: &[Value]) -> Result<(), ExportFault> {
        let name = self.users.get(&user.id).cloned().unwrap_or_default();
        let email = user.email.as_deref().unwrap_or_default().to_lowercase();
        let email = if email.is_empty() { format!("{name}@legacy.invalid") } else { email };
        let nickname = self.cut(&user.display_name, DISPLAY_CHARS_MAX, "display names");
        let position = self.cut(user.bio.as_deref().unwrap_or_default(), POSITION_CHARS_MAX, "bios");
        let line = json!({"type": "user", "user": {"username": name, "email": email, "auth_service": "",
            "nickname": nickname, "first_name": "", "last_name": "", "position": position, "roles": "system_user",
            "locale": "en", "delete_at": if user.is_active { 0 } else { self.now },
            "teams": [{"name": self.options.team, "roles": "team_user", "channels": channels}]}});
        self.report.count("users");
        self.line(&line)
    }

    async fn posts(
        &mut self,
        session: &ExportSession,
        places: &[PostedConversation],
        shown: &mut impl FnMut(u64),
    ) -> Result<(), ExportFault> {
        for PostedConversation { id, place } in places {
            let mut thread: Option<Thread> = None;
            let each = |message: ExportedMessage| self.message(place, &message, &mut thread);
            session.messages(*id, each).await?;
            self.end_thread(place, &mut thread)?;
            let written = ["posts", "replies"].map(|what| self.report.written.get(what).copied().unwrap_or(0));
            shown(written.iter().sum());
        }
        Ok(())
    }

    fn message(
        &mut self,
        place: &PostPlace,
        message: &ExportedMessage,
        thread: &mut Option<Thread>,
    ) -> Result<(), ExportFault> {
        let is_reply = message.parent.is_some() && thread.as_ref().map(|thread| thread.root) == message.parent;
        if !is_reply {
            self.end_thread(place, thread)?;
        }
        if message.is_deleted && is_reply {
            self.report.note("deleted messages were left out");
            return Ok(());
        }
        if message.at != message.created_at {
            self.report.note("messages are some milliseconds later, so that no two of a channel have the same time");
        }
        let mut parts = split(&message.content).into_iter();
        let text = parts.next().unwrap_or_default();
        let is_deleted = message.is_deleted;
        let (id, at, user) = (message.id, message.at, self.username(message.sender));
        let post = self.post(message, if is_deleted { DELETED.to_owned() } else { text });
        match thread {
            Some(thread) if is_reply => {
                let line = thread.reply(place, &post).map_err(io::Error::other)?;
                self.thread_line(line)?;
                self.report.count("replies");
            }
            _ => *thread = Some(Thread::new(id, post, is_deleted)),
        }
        for part in parts {
            self.report.note(format!("parts of messages of more than {MESSAGE_CHARS_MAX} characters became replies"));
            let part = Post { user: user.clone(), message: part, create_at: at, ..Post::default() };
            if let Some(thread) = thread {
                let line = thread.reply(place, &part).map_err(io::Error::other)?;
                self.thread_line(line)?;
            }
        }
        Ok(())
    }

    fn thread_line(&mut self, line: Option<Box<serde_json::value::RawValue>>) -> Result<(), ExportFault> {
        line.map_or(Ok(()), |line| self.line(&line))
    }

    fn end_thread(&mut self, place: &PostPlace, thread: &mut Option<Thread>) -> Result<(), ExportFault> {
        let Some(mut thread) = thread.take() else { return Ok(()) };
        let line = thread.take_line(place).map_err(io::Error::other)?;
        if thread.is_deleted && line.is_none() {
            self.report.note("deleted messages were left out");
            return Ok(());
        }
        if thread.is_deleted {
            self.report.note(format!("deleted messages with replies have the text {DELETED}"));
        }
        self.report.count("posts");
        self.thread_line(line)
    }

    fn username(&self, id: i64) -> String {
        self.users.get(&id).cloned().unwrap_or_else(|| format!("user-{id}"))
    }

    fn post(&mut self, message: &ExportedMessage, text: String) -> Post {
        let mut post = Post {
            user: self.username(message.sender),
            message: text,
            create_at: message.at,
            edit_at: message.edited_at.map_or(0, |edited| edited.max(message.at)),
            is_pinned: message.is_pinned && !message.is_deleted,
            ..Post::default()
        };
        if message.is_deleted {
            return post;
        }
        if message.kind == "system" {
            self.make_system(&mut post, message.system.as_deref());
        }
        for (emoji, user, at) in parsed::<(String, i64, i64)>(message.reactions.as_deref()) {
            match emoji::name_of(&emoji).filter(|name| name.chars().count() <= EMOJI_CHARS_MAX) {
                Some(name) => {
                    self.report.count("reactions");
                    let (user, at) = (self.username(user), at.max(message.at));
                    post.reactions.push(json!({"user": user, "create_at": at, "emoji_name": name}));
                }
                None => self.report.note(format!("reactions with {emoji} were left out: it has no name there")),
            }
        }
        let mut names = Vec::new();
        for (id, name, is_ready) in parsed::<(i64, String, bool)>(message.files.as_deref()) {
            if is_ready && self.options.has_files {
                post.attachments.push(json!({"path": attachment_path(id, &name)}));
            } else if is_ready {
                self.report.note("attachments were left out, because --files is not given");
                names.push(name);
            } else {
                self.report.note("attachments were left out, because their content is not ready");
                names.push(name);
            }
        }
        if post.message.trim().is_empty() && post.attachments.is_empty() {
            post.message = names.join("\n");
        }
        post
    }

    /// A post that says who joined or left.
    fn make_system(&mut self, post: &mut Post, system: Option<&str>) {
        let system: Value = system.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let name = |who: &str| system[who]["id"].as_i64().map(|id| self.username(id));
        let (user, actor) = (name("user").unwrap_or_else(|| post.user.clone()), name("actor"));
        let by = actor.unwrap_or_else(|| post.user.clone());
        let (kind, props) = match system["kind"].as_str() {
            Some("joined") => ("system_join_channel", json!({"username": user})),
            Some("left") => ("system_leave_channel", json!({"username": user})),
            Some("added") => ("system_add_to_channel", json!({"username": by, "addedUsername": user})),
            Some("removed") => ("system_remove_from_channel", json!({"removedUsername": user})),
            _ => ("system_generic", json!({})),
        };
        kind.clone_into(&mut post.kind);
        post.props = props;
        self.report.count("system posts");
    }

    /// Writes the attachments.
    async fn files(&mut self, session: &ExportSession, store: &Store) -> Result<(), ExportFault> {
        let mut files = Vec::new();
        session
            .files(|file| {
                files.push(file);
                Ok::<(), ExportFault>(())
            })
            .await?;
        for file in files {
            let content = store.read(file.content, 0..file.size).await;
            match content {
                Ok(content) => {
                    self.output.file(&attachment_path(file.id.0, &file.name), content).await?;
                    self.report.count("attachments");
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.report.note("attachments have no content, which the server has lost: see `files check`");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn parsed<T: serde::de::DeserializeOwned>(text: Option<&str>) -> Vec<T> {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The place of an attachment in the folder `data`.
fn attachment_path(id: i64, name: &str) -> String {
    let name: String = name.chars().map(|c| if matches!(c, '/' | '\\') || c.is_control() { '_' } else { c }).collect();
    let name = if matches!(name.as_str(), "" | "." | "..") { "file".to_owned() } else { name };
    format!("files/{id}/{name}")
}

/// The parts of a text that posts can have.
fn split(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let end = rest.char_indices().nth(MESSAGE_CHARS_MAX).map_or(rest.len(), |(end, _)| end);
        parts.push(rest[..end].to_owned());
        rest = &rest[end..];
        if rest.is_empty() {
            return parts;
        }
    }
}
