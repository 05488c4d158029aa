//! JSON objects that several responses share.

use crate::ids::{SessionId, UserId};
use crate::mesh::record::UserRole;
use crate::storage::accounts::{AccountProfile, SessionInfo};
use serde::Serialize;
use time::{OffsetDateTime, UtcOffset, macros::format_description};

/// `user` of the wire contract.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct UserView {
    id: UserId,
    username: String,
    display_name: String,
    avatar_url: Option<String>,
    bio: Option<String>,
    created_at: String,
    /// `bot`; people have no role here.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<UserRole>,
    /// `public` or `private`; only the user sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    read_receipts: Option<&'static str>,
    /// `everyone`, `contacts` or `nobody`; only the user sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    group_invitations: Option<String>,
}

impl UserView {
    /// With the fields that only the user may see.
    #[must_use]
    pub fn own(mut profile: AccountProfile) -> Self {
        let receipts = if profile.receipts_private { "private" } else { "public" };
        let group_invitations = Some(std::mem::take(&mut profile.group_invitations));
        Self { read_receipts: Some(receipts), group_invitations, ..profile.into() }
    }
}

impl From<AccountProfile> for UserView {
    fn from(profile: AccountProfile) -> Self {
        Self {
            id: profile.id,
            created_at: rfc3339_ms(profile.created_at),
            role: UserRole::of(profile.is_bot),
            username: profile.username,
            display_name: profile.display_name,
            avatar_url: profile.avatar_url,
            bio: profile.bio,
            read_receipts: None,
            group_invitations: None,
        }
    }
}

/// One session in `GET /auth/sessions`.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct SessionView {
    id: SessionId,
    device_name: String,
    ip: String,
    created_at: String,
    last_used_at: String,
    /// Whether it is the session of the request.
    current: bool,
}

impl SessionView {
    /// `current` is the session of the request.
    #[must_use]
    pub fn new(info: SessionInfo, current: SessionId) -> Self {
        Self {
            id: info.id,
            current: info.id == current,
            created_at: rfc3339_ms(info.created_at),
            last_used_at: rfc3339_ms(info.last_used_at),
            device_name: info.device_name,
            ip: info.ip,
        }
    }
}

/// RFC 3339, UTC, milliseconds, `Z`.
#[must_use]
pub fn rfc3339_ms(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    // PROOF: no component of this format can fail.
    at.to_offset(UtcOffset::UTC).format(format).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn times_are_utc_with_milliseconds() {
        assert_eq!(rfc3339_ms(datetime!(2025-03-09 01:02:03.004_999 +02:00)), "2025-03-08T23:02:03.004Z");
        assert_eq!(rfc3339_ms(datetime!(2025-03-09 00:00 UTC)), "2025-03-09T00:00:00.000Z");
    }
}
