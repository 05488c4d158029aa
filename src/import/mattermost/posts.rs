//! Posts with their replies, reactions and files.

use super::lines::{BulkAttachment, BulkPost, BulkProps, BulkReaction};
use super::reader::{MattermostReader, ParseFault, direct_id, parse, room_id, time, user_id};
use super::text::written;
use crate::import::cards;
use crate::import::emoji;
use crate::import::model::{
    FileRow, MessageRow, ReactionRow, RowPlace, Staged, counted, from_millis, key_of, mark, name_files,
};
use crate::import::staged::{SinkClosed, StagedLines};
use crate::import::written::MarkedText;
use serde_json::value::RawValue;

/// Types of posts that the server writes itself.
const SYSTEM: &str = "system_";

/// Where a post is.
#[derive(Clone, Copy)]
struct PostThread<'t> {
    room: &'t str,
    label: &'t str,
    parent: Option<i64>,
}

impl<F: FnMut(StagedLines) -> Result<(), SinkClosed>> MattermostReader<'_, F> {
    /// Stages a post of a channel or of a direct channel.
    pub(super) fn post(&mut self, place: RowPlace, mut post: BulkPost<'_>) -> Result<(), SinkClosed> {
        let (room, label) = match (&post.team, &post.channel, post.channel_members.take()) {
            (Some(team), Some(channel), _) => {
                let id = room_id(team, channel);
                (id.clone(), id)
            }
            (_, _, Some(members)) if !members.is_empty() => self.direct_room(place, members)?,
            _ => {
                let why = "it has neither a team and a channel nor members of a direct channel";
                return self.model.reject(Staged::Message, place, "", why);
            }
        };
        self.message(place, PostThread { room: &room, label: &label, parent: None }, post)
    }

    /// The direct conversation of some members. Where no line describes it, it is made here.
    fn direct_room(&mut self, place: RowPlace, members: Vec<String>) -> Result<(String, String), SinkClosed> {
        let mut members: Vec<(String, Option<i64>)> =
            members.into_iter().map(|name| (name.trim().to_lowercase(), None)).collect();
        let (id, label) = direct_id(members.iter().map(|(name, _)| name.as_str()));
        if self.directs.insert(id.clone()) {
            self.make_direct(place, &id, &label, &mut members, None)?;
        }
        Ok((id, label))
    }

    fn message(&mut self, place: RowPlace, thread: PostThread<'_>, mut post: BulkPost<'_>) -> Result<(), SinkClosed> {
        let PostThread { room, label, parent } = thread;
        let label = format!("{label} {} {}", post.user, post.create_at);
        let replies = post.replies.take().unwrap_or_default();
        let reactions = post.reactions.take().unwrap_or_default();
        let kind = post.kind.take().unwrap_or_default();
        if kind.starts_with(SYSTEM) {
            if replies.is_empty() && reactions.is_empty() {
                let shown: String = kind.chars().filter(|c| !c.is_control()).take(40).collect();
                self.model.left_out(&format!("posts of the type {shown}"));
                return Ok(());
            }
            let what = format!("its type is {kind}, which others answered; it became an ordinary message");
            self.model.changed(Staged::Message, place, &label, &what)?;
        }
        let Some(created_at) = from_millis(post.create_at).filter(|_| post.create_at > 0) else {
            return self.reject_post(place, &label, "its create_at is no time", replies, reactions);
        };
        self.posts += 1;
        let id = counted(self.posts);
        let author = user_id(&post.user);
        let slot = key_of(&["post", room, &post.user.trim().to_lowercase(), &post.create_at.to_string()]);
        let is_deleted = time(post.delete_at).is_some();
        let mut text = self.text(&post);
        let files = post.attachments.take().unwrap_or_default();
        let files = self.files(id, author, &slot, &label, files, created_at);
        let has_files = files.iter().any(|file| file.place.is_some());
        if !is_deleted && name_files(&mut text, &files) {
            let what = "it had only files, whose content is not there; their names became its text";
            self.model.changed(Staged::Message, place, &label, what)?;
        }
        let row = MessageRow {
            id,
            slot: Some(slot),
            label: label.clone(),
            room: room.to_owned(),
            author,
            text,
            parent,
            is_deleted,
            is_pinned: post.is_pinned.unwrap_or(false),
            created_at,
            edited_at: time(post.edit_at),
            has_files,
        };
        self.model.message(place, row)?;
        for file in files {
            self.model.file(place, &file)?;
        }
        for reaction in reactions {
            self.reaction(place, id, &label, reaction)?;
        }
        for reply in replies {
            match parse::<BulkPost<'_>>(reply.get()) {
                Ok(reply) => {
                    let thread = PostThread { room, label: thread.label, parent: Some(parent.unwrap_or(id)) };
                    self.message(place, thread, reply)?;
                }
                Err(ParseFault::Broken(said) | ParseFault::Fields(said)) => {
                    self.model.reject(Staged::Message, place, &format!("a reply to {label}"), &said)?;
                }
            }
        }
        Ok(())
    }

    /// Rejects a post with everything in it.
    fn reject_post(
        &mut self,
        place: RowPlace,
        label: &str,
        why: &str,
        replies: Vec<&RawValue>,
        reactions: Vec<&RawValue>,
    ) -> Result<(), SinkClosed> {
        self.model.reject(Staged::Message, place, label, why)?;
        for _ in replies {
            self.model.reject(Staged::Message, place, label, "the message that it replies to was rejected")?;
        }
        for _ in reactions {
            self.model.reject(Staged::Reaction, place, label, "its message was rejected")?;
        }
        Ok(())
    }

    fn text(&self, post: &BulkPost<'_>) -> MarkedText {
        let is_user = |name: &str| {
            let id = user_id(name);
            self.users.contains(&id).then_some(id)
        };
        let mut text = written(post.message.as_deref().unwrap_or_default(), is_user);
        let props = post.props.and_then(|props| parse::<BulkProps>(props.get()).ok()).unwrap_or_default();
        for line in cards::lines_of(&props.attachments.unwrap_or_default(), !text.is_empty()) {
            text.push_lines(written(&line, is_user));
        }
        text
    }

    fn files(
        &self,
        message: i64,
        uploader: i64,
        slot: &str,
        label: &str,
        attachments: Vec<BulkAttachment>,
        created_at: time::OffsetDateTime,
    ) -> Vec<FileRow> {
        let paths = attachments.into_iter().filter_map(|attachment| attachment.path).filter(|path| !path.is_empty());
        let row = |(n, path): (usize, String)| {
            let path = path.trim_start_matches("./").trim_start_matches('/').to_owned();
            let found = (self.find)(&[format!("data/{path}"), path.clone()]);
            FileRow {
                id: mark("file", &format!("{slot} {n} {path}")),
                message,
                uploader,
                name: path.rsplit('/').next().unwrap_or_default().to_owned(),
                size: found.as_ref().map(|found| found.size),
                place: found.map(|found| found.place),
                media_type: None,
                created_at,
                label: format!("{label} {path}"),
            }
        };
        paths.enumerate().map(row).collect()
    }

    fn reaction(&mut self, place: RowPlace, message: i64, label: &str, reaction: &RawValue) -> Result<(), SinkClosed> {
        let reaction: BulkReaction = match parse(reaction.get()) {
            Ok(reaction) => reaction,
            Err(ParseFault::Broken(said) | ParseFault::Fields(said)) => {
                return self.model.reject(Staged::Reaction, place, label, &said);
            }
        };
        let label = format!("{label} {}", reaction.emoji_name);
        let Some(emoji) = emoji::of_name(&reaction.emoji_name) else {
            return self.model.reject(Staged::Reaction, place, &label, "its emoji has no name that is allowed here");
        };
        let user = user_id(&reaction.user);
        self.model.reaction(place, &ReactionRow { message, user, emoji, created_at: time(reaction.create_at), label })
    }
}
