//! Messages with their reactions and files.

use super::objects::{SlackFile, SlackMessage, SlackReaction};
use super::reader::{SlackReader, message_id, parse, parse_ts, user_id};
use super::text::{of_blocks, written};
use crate::import::model::{FileRow, MessageRow, ReactionRow, RowPlace, Staged, mark, name_files};
use crate::import::staged::{SinkClosed, StagedLines};
use crate::import::written::MarkedText;
use crate::import::{cards, emoji};
use serde_json::Value;
use serde_json::value::RawValue;
use time::{Duration, OffsetDateTime};

/// Subtypes of messages that Slack writes itself, or that repeat another one.
const SYSTEM: &[&str] = &[
    "bot_add",
    "bot_disable",
    "bot_enable",
    "bot_remove",
    "channel_archive",
    "channel_convert_to_private",
    "channel_convert_to_public",
    "channel_join",
    "channel_leave",
    "channel_name",
    "channel_posting_permissions",
    "channel_purpose",
    "channel_retention_changed",
    "channel_topic",
    "channel_unarchive",
    "ekm_access_denied",
    "group_archive",
    "group_join",
    "group_leave",
    "group_name",
    "group_purpose",
    "group_topic",
    "group_unarchive",
    "huddle_thread",
    "joiner_notification",
    "joiner_notification_for_inviter",
    "message_changed",
    "message_deleted",
    "message_replied",
    "pinned_item",
    "reminder_add",
    "reply_broadcast",
    "sh_room_created",
    "sh_room_shared",
    "unpinned_item",
];
/// A message that was deleted, and whose thread is left.
const TOMBSTONE: &str = "tombstone";

impl<F: FnMut(StagedLines) -> Result<(), SinkClosed>> SlackReader<'_, F> {
    /// Stages a message of the folder that is read.
    pub(super) fn message(&mut self, place: RowPlace, mut message: SlackMessage<'_>) -> Result<(), SinkClosed> {
        let label = format!("{}/{}", self.folder, message.ts);
        let Some(room) = self.known.folders.get(&self.folder).cloned() else {
            let why = "its folder is no conversation of the lists at the top of the export";
            return self.model.reject(Staged::Message, place, &label, why);
        };
        let reactions = message.reactions.take().unwrap_or_default();
        let subtype = message.subtype.take().unwrap_or_default();
        let is_deleted = subtype == TOMBSTONE;
        if is_deleted || SYSTEM.contains(&subtype.as_str()) {
            let is_answered = message.reply_count.is_some_and(|count| count > 0) || !reactions.is_empty();
            if !is_answered || subtype == "reply_broadcast" {
                self.model.left_out(&format!("messages of the subtype {subtype}"));
                return Ok(());
            }
            if !is_deleted {
                let what = format!("its subtype is {subtype}, which others answered; it became an ordinary message");
                self.model.changed(Staged::Message, place, &label, &what)?;
            }
        }
        let Some(created_at) = parse_ts(&message.ts) else {
            return self.model.reject(Staged::Message, place, &label, "its ts is no time");
        };
        let Some(author) = self.author(place, &mut message) else {
            return self.model.reject(Staged::Message, place, &label, "it has neither a user nor a bot");
        };
        let id = message_id(&room, &message.ts);
        let mut text = self.text(&message);
        let files = message.files.take().unwrap_or_default();
        let files = self.files(place, (id, author, &label), &mut text, files, created_at)?;
        if !is_deleted && name_files(&mut text, &files) {
            let what = "it had only files, whose content is not there; their names became its text";
            self.model.changed(Staged::Message, place, &label, what)?;
        }
        let parent = message.thread_ts.as_deref().filter(|root| *root != message.ts);
        let is_pinned = message.pinned_to.is_some_and(|rooms| rooms.contains(&room)) || self.known.pins.contains(&id);
        let row = MessageRow {
            id,
            slot: None,
            label: label.clone(),
            author,
            text,
            parent: parent.map(|root| message_id(&room, root)),
            room,
            is_deleted,
            is_pinned,
            created_at,
            edited_at: message.edited.and_then(|edited| parse_ts(&edited.ts?)),
            has_files: files.iter().any(|file| file.place.is_some()),
        };
        self.model.message(place, row)?;
        for file in &files {
            self.model.file(place, file)?;
        }
        for (n, reaction) in reactions.into_iter().enumerate() {
            // Slack keeps no times of reactions. These keep their order.
            let created_at = created_at + Duration::microseconds(n as i64);
            self.reaction(place, (id, &label, created_at), reaction)?;
        }
        Ok(())
    }

    /// The number of the author. Strangers and bots become users when they first write.
    fn author(&mut self, place: RowPlace, message: &mut SlackMessage<'_>) -> Option<i64> {
        let commented = message.comment.as_ref().and_then(|comment| comment.user.clone());
        let given = message.user.take().or(commented).filter(|user| !user.is_empty());
        if let Some(user) = given {
            let id = user_id(&user);
            let name = if user == "USLACKBOT" { "slackbot".to_owned() } else { user.to_lowercase() };
            self.stranger(place, id, &name, message.user_profile.take());
            return Some(id);
        }
        let bot = message.bot_id.as_deref().filter(|bot| !bot.is_empty());
        if let Some(user) = bot.and_then(|bot| self.known.bots.get(bot)) {
            return Some(*user);
        }
        let names =
            [message.username.as_deref(), message.bot_profile.as_ref().and_then(|bot| bot.name.as_deref()), bot];
        let name = names.into_iter().flatten().find(|name| !name.trim().is_empty()).map(str::to_owned)?;
        let id = bot.map_or_else(|| mark("bot name", &name), |bot| mark("bot", bot));
        self.stranger(place, id, &name, None);
        Some(id)
    }

    fn text(&self, message: &SlackMessage<'_>) -> MarkedText {
        let comment = message.comment.as_ref().and_then(|comment| comment.comment.as_deref());
        let given = comment.or(message.text.as_deref()).unwrap_or_default();
        let mut text = written(given, &self.known);
        let cards = message.attachments.as_deref().map(|cards| cards::lines_of(cards, !text.is_empty()));
        for line in cards.unwrap_or_default() {
            text.push_lines(written(&line, &self.known));
        }
        if text.is_empty() {
            let blocks = message.blocks.and_then(|blocks| parse::<Value>(blocks.get()).ok());
            text = blocks.map(|blocks| written(&of_blocks(&blocks), &self.known)).unwrap_or_default();
        }
        text
    }

    /// The files of a message. Those of other services become links in its text.
    fn files(
        &mut self,
        place: RowPlace,
        (message, author, label): (i64, i64, &str),
        text: &mut MarkedText,
        files: Vec<&RawValue>,
        created_at: OffsetDateTime,
    ) -> Result<Vec<FileRow>, SinkClosed> {
        let mut rows = Vec::new();
        for file in files {
            let file: SlackFile = match parse(file.get()) {
                Ok(file) => file,
                Err(Ok(said) | Err(said)) => {
                    self.model.reject(Staged::File, place, label, &said)?;
                    continue;
                }
            };
            let id = file.id.as_deref().unwrap_or_default();
            let label = format!("{label} {id}");
            let shown = [file.name.as_deref(), file.title.as_deref(), Some(id)];
            let name = shown.into_iter().flatten().find(|name| !name.trim().is_empty()).unwrap_or("file").to_owned();
            match file.mode.as_deref() {
                Some("external") => {
                    let link = file.url_private.as_deref().or(file.permalink.as_deref()).unwrap_or_default();
                    let mut about = MarkedText::default();
                    about.push_str(format!("{} {link}", file.title.as_deref().unwrap_or(&name)).trim());
                    text.push_lines(about);
                    continue;
                }
                Some("tombstone" | "hidden_by_limit") => {
                    self.model.reject(Staged::File, place, &label, "Slack does not have its content any longer")?;
                    continue;
                }
                _ => {}
            }
            let found = (self.find)(&places(&self.folder, id, &name));
            rows.push(FileRow {
                id: mark("file", &format!("{message} {id}")),
                message,
                uploader: file
                    .user
                    .as_deref()
                    .map(user_id)
                    .filter(|user| self.known.users.contains_key(user))
                    .unwrap_or(author),
                name,
                size: file.size.filter(|size| *size > 0).or(found.as_ref().map(|found| found.size)),
                place: found.map(|found| found.place),
                media_type: file.mimetype,
                created_at,
                label,
            });
        }
        Ok(rows)
    }

    fn reaction(
        &mut self,
        place: RowPlace,
        (message, label, created_at): (i64, &str, OffsetDateTime),
        reaction: &RawValue,
    ) -> Result<(), SinkClosed> {
        let reaction: SlackReaction = match parse(reaction.get()) {
            Ok(reaction) => reaction,
            Err(Ok(said) | Err(said)) => return self.model.reject(Staged::Reaction, place, label, &said),
        };
        let label = format!("{label} {}", reaction.name);
        let Some(emoji) = emoji::of_name(&reaction.name) else {
            return self.model.reject(Staged::Reaction, place, &label, "its emoji has no name that is allowed here");
        };
        if reaction.count.is_some_and(|count| count > reaction.users.len() as u64) {
            let what = "the export does not name all users of this reaction; it counts those that it names";
            self.model.changed(Staged::Reaction, place, &label, what)?;
        }
        for user in reaction.users {
            let id = user_id(&user);
            self.stranger(place, id, &user.to_lowercase(), None);
            let (emoji, label) = (emoji.clone(), label.clone());
            self.model
                .reaction(place, &ReactionRow { message, user: id, emoji, created_at: Some(created_at), label })?;
        }
        Ok(())
    }
}

/// Where programs that download the files of an export put them.
fn places(folder: &str, id: &str, name: &str) -> Vec<String> {
    let name = name.replace('/', "_");
    let mut places = Vec::new();
    for root in ["", "__uploads/", "attachments/", "files/", &format!("{folder}/attachments/"), &format!("{folder}/")] {
        for form in [format!("{id}/{name}"), format!("{id}-{name}"), format!("{id}_{name}"), id.to_owned()] {
            places.push(format!("{root}{form}"));
        }
        if let Some((_, extension)) = name.rsplit_once('.') {
            places.push(format!("{root}{id}.{extension}"));
        }
    }
    places
}
