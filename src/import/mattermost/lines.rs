//! The lines of Mattermost's bulk format, as far as they are read. Fields that are not named here are not imported.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// A line: its type, and the object of that name.
#[derive(Deserialize)]
pub(super) struct BulkLine<'l> {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) version: Option<i64>,
    #[serde(borrow)]
    pub(super) team: Option<&'l RawValue>,
    #[serde(borrow)]
    pub(super) channel: Option<&'l RawValue>,
    #[serde(borrow)]
    pub(super) user: Option<&'l RawValue>,
    #[serde(borrow)]
    pub(super) bot: Option<&'l RawValue>,
    #[serde(borrow)]
    pub(super) post: Option<&'l RawValue>,
    #[serde(borrow)]
    pub(super) direct_channel: Option<&'l RawValue>,
    #[serde(borrow)]
    pub(super) direct_post: Option<&'l RawValue>,
}

#[derive(Deserialize)]
pub(super) struct BulkTeam {
    pub(super) name: String,
    pub(super) display_name: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct BulkChannel {
    pub(super) team: String,
    pub(super) name: String,
    pub(super) display_name: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) header: Option<String>,
    pub(super) purpose: Option<String>,
    #[serde(alias = "delete_at")]
    pub(super) deleted_at: Option<i64>,
}

#[derive(Deserialize)]
pub(super) struct BulkUser {
    pub(super) username: String,
    pub(super) email: Option<String>,
    pub(super) auth_service: Option<String>,
    pub(super) nickname: Option<String>,
    pub(super) first_name: Option<String>,
    pub(super) last_name: Option<String>,
    pub(super) position: Option<String>,
    pub(super) roles: Option<String>,
    pub(super) delete_at: Option<i64>,
    pub(super) teams: Option<Vec<BulkUserTeam>>,
}

#[derive(Deserialize)]
pub(super) struct BulkUserTeam {
    pub(super) name: String,
    pub(super) roles: Option<String>,
    pub(super) channels: Option<Vec<BulkUserChannel>>,
}

#[derive(Deserialize)]
pub(super) struct BulkUserChannel {
    pub(super) name: String,
    pub(super) roles: Option<String>,
    pub(super) last_viewed_at: Option<i64>,
}

#[derive(Deserialize)]
pub(super) struct BulkBot {
    pub(super) username: String,
    pub(super) display_name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) delete_at: Option<i64>,
}

/// A post, a direct post, or a reply.
#[derive(Deserialize)]
pub(super) struct BulkPost<'l> {
    pub(super) team: Option<String>,
    pub(super) channel: Option<String>,
    pub(super) channel_members: Option<Vec<String>>,
    pub(super) user: String,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) message: Option<String>,
    #[serde(borrow)]
    pub(super) props: Option<&'l RawValue>,
    pub(super) create_at: i64,
    pub(super) edit_at: Option<i64>,
    pub(super) delete_at: Option<i64>,
    pub(super) is_pinned: Option<bool>,
    #[serde(borrow)]
    pub(super) reactions: Option<Vec<&'l RawValue>>,
    #[serde(borrow)]
    pub(super) replies: Option<Vec<&'l RawValue>>,
    pub(super) attachments: Option<Vec<BulkAttachment>>,
}

#[derive(Deserialize)]
pub(super) struct BulkReaction {
    pub(super) user: String,
    pub(super) emoji_name: String,
    pub(super) create_at: Option<i64>,
}

#[derive(Default, Deserialize)]
pub(super) struct BulkProps {
    /// Cards.
    pub(super) attachments: Option<Vec<Value>>,
}

#[derive(Deserialize)]
pub(super) struct BulkAttachment {
    pub(super) path: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct BulkDirectChannel {
    pub(super) members: Option<Vec<String>>,
    pub(super) participants: Option<Vec<BulkParticipant>>,
    pub(super) header: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct BulkParticipant {
    pub(super) username: String,
    pub(super) last_viewed_at: Option<i64>,
}
