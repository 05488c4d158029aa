//! The objects of a Slack export, as far as they are read. Fields that are not named here are not imported.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

#[derive(Deserialize)]
pub(super) struct SlackUser {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) real_name: Option<String>,
    #[serde(default)]
    pub(super) deleted: Option<bool>,
    pub(super) is_admin: Option<bool>,
    pub(super) is_owner: Option<bool>,
    pub(super) is_restricted: Option<bool>,
    pub(super) is_ultra_restricted: Option<bool>,
    pub(super) profile: Option<SlackProfile>,
}

#[derive(Clone, Default, Deserialize)]
pub(super) struct SlackProfile {
    pub(super) name: Option<String>,
    pub(super) display_name: Option<String>,
    pub(super) real_name: Option<String>,
    pub(super) email: Option<String>,
    pub(super) title: Option<String>,
    pub(super) bot_id: Option<String>,
    pub(super) image_original: Option<String>,
}

/// A channel, a private channel, or a conversation of some members.
#[derive(Deserialize)]
pub(super) struct SlackConversation {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) created: Option<i64>,
    pub(super) creator: Option<String>,
    pub(super) is_archived: Option<bool>,
    pub(super) members: Option<Vec<String>>,
    pub(super) topic: Option<SlackAbout>,
    pub(super) purpose: Option<SlackAbout>,
    pub(super) pins: Option<Vec<SlackPin>>,
}

#[derive(Deserialize)]
pub(super) struct SlackAbout {
    pub(super) value: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct SlackPin {
    pub(super) id: Option<Value>,
}

#[derive(Deserialize)]
pub(super) struct SlackMessage<'m> {
    pub(super) subtype: Option<String>,
    pub(super) ts: String,
    pub(super) user: Option<String>,
    pub(super) bot_id: Option<String>,
    pub(super) username: Option<String>,
    pub(super) text: Option<String>,
    pub(super) thread_ts: Option<String>,
    pub(super) reply_count: Option<i64>,
    pub(super) edited: Option<SlackEdited>,
    pub(super) pinned_to: Option<Vec<String>>,
    pub(super) user_profile: Option<SlackProfile>,
    pub(super) bot_profile: Option<SlackBotProfile>,
    pub(super) comment: Option<SlackComment>,
    #[serde(borrow)]
    pub(super) reactions: Option<Vec<&'m RawValue>>,
    #[serde(borrow)]
    pub(super) files: Option<Vec<&'m RawValue>>,
    pub(super) attachments: Option<Vec<Value>>,
    #[serde(borrow)]
    pub(super) blocks: Option<&'m RawValue>,
}

#[derive(Deserialize)]
pub(super) struct SlackEdited {
    pub(super) ts: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct SlackBotProfile {
    pub(super) name: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct SlackComment {
    pub(super) user: Option<String>,
    pub(super) comment: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct SlackReaction {
    pub(super) name: String,
    #[serde(default)]
    pub(super) users: Vec<String>,
    pub(super) count: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct SlackFile {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) title: Option<String>,
    pub(super) mimetype: Option<String>,
    pub(super) size: Option<u64>,
    pub(super) mode: Option<String>,
    pub(super) user: Option<String>,
    pub(super) url_private: Option<String>,
    pub(super) permalink: Option<String>,
}
