//! A thread as Mattermost has it: a post with its replies, in one line.

use super::output::LINE_BYTES_MAX;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Bytes of replies in a line. The rest is for the first message.
const REPLY_BYTES_MAX: usize = LINE_BYTES_MAX - 4 * 1024 * 1024;

/// Where a post is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum PostPlace {
    /// The channel of a team.
    Channel { team: String, channel: String },
    /// The usernames of a direct channel.
    Members(Vec<String>),
}

/// A post or a reply.
#[derive(Clone, Default, Serialize, Debug)]
pub(super) struct Post {
    pub(super) user: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) message: String,
    /// An object; nothing is an empty one.
    #[serde(serialize_with = "object")]
    pub(super) props: Value,
    pub(super) create_at: i64,
    pub(super) edit_at: i64,
    pub(super) is_pinned: bool,
    pub(super) reactions: Vec<Value>,
    pub(super) attachments: Vec<Value>,
}

fn object<S: serde::Serializer>(value: &Value, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_null() { json!({}).serialize(serializer) } else { value.serialize(serializer) }
}

/// A line of a thread.
#[derive(Serialize)]
struct ThreadLine<'t> {
    #[serde(flatten)]
    place: Value,
    #[serde(flatten)]
    post: &'t Post,
    flagged_by: [&'t str; 0],
    replies: &'t [Box<RawValue>],
}

/// A thread that is being read.
pub(super) struct Thread {
    /// The id of the first message here.
    pub(super) root: i64,
    pub(super) post: Post,
    /// Whether the first message is deleted, and stands only for its replies.
    pub(super) is_deleted: bool,
    replies: Vec<Box<RawValue>>,
    reply_bytes: usize,
    /// Whether a part of it is written.
    is_begun: bool,
}

impl Thread {
    pub(super) fn new(root: i64, post: Post, is_deleted: bool) -> Self {
        Self { root, post, is_deleted, replies: Vec::new(), reply_bytes: 0, is_begun: false }
    }

    /// Adds a reply. Returns a line to write before it, if the line would be too long: Mattermost unites lines with the
    /// same first message.
    pub(super) fn reply(&mut self, place: &PostPlace, reply: &Post) -> serde_json::Result<Option<Box<RawValue>>> {
        let reply = serde_json::value::to_raw_value(reply)?;
        let length = reply.get().len();
        let line = (self.reply_bytes + length > REPLY_BYTES_MAX).then(|| self.take_line(place)).transpose()?;
        self.reply_bytes += length;
        self.replies.push(reply);
        Ok(line.flatten())
    }

    /// The line of what is left; `None` if nothing is.
    pub(super) fn take_line(&mut self, place: &PostPlace) -> serde_json::Result<Option<Box<RawValue>>> {
        if self.replies.is_empty() && (self.is_begun || self.is_deleted) {
            return Ok(None);
        }
        let (kind, place) = match place {
            PostPlace::Channel { team, channel } => ("post", json!({"team": team, "channel": channel})),
            PostPlace::Members(members) => ("direct_post", json!({"channel_members": members})),
        };
        let object = ThreadLine { place, post: &self.post, flagged_by: [], replies: &self.replies };
        let object = serde_json::to_string(&object)?;
        let line = RawValue::from_string(format!("{{\"type\":\"{kind}\",\"{kind}\":{object}}}"))?;
        (self.reply_bytes, self.is_begun) = (0, true);
        self.replies.clear();
        Ok(Some(line))
    }
}
