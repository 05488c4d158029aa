//! What a detector found, and how bad it is.

use crate::ids::{SessionId, UserId};
use serde_json::{Map, Value};

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Probably an attack or abuse.
    Warning,
    /// An attack that succeeded, or one on many accounts.
    Critical,
}

impl Severity {
    /// The value of the column and of the label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What a detector looks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Suspicion {
    /// Many wrong passwords for one login.
    Guessing,
    /// Wrong passwords for many logins from one network.
    Stuffing,
    /// A spent refresh token came back.
    RefreshReuse,
    /// One user is at two places that are too far apart.
    ImpossibleTravel,
    /// One user brings many people into conversations.
    MassInvitations,
    /// One user opens direct conversations with many people.
    MassDirect,
    /// One user mentions many people, or whole conversations again and again.
    MassMentions,
    /// One user reads far more than a person can.
    MassReading,
    /// One user varies a text until the content filter lets it pass.
    FilterEvasion,
    /// Somebody who has just received a role with power promotes others.
    PrivilegeJump,
    /// A virus was found in a file.
    InfectedFile,
    /// The audit trail is not the one that was written.
    AuditGap,
}

impl Suspicion {
    /// All of them, for metrics.
    pub const ALL: [Self; 12] = [
        Self::Guessing,
        Self::Stuffing,
        Self::RefreshReuse,
        Self::ImpossibleTravel,
        Self::MassInvitations,
        Self::MassDirect,
        Self::MassMentions,
        Self::MassReading,
        Self::FilterEvasion,
        Self::PrivilegeJump,
        Self::InfectedFile,
        Self::AuditGap,
    ];

    /// The value of `event_type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guessing => "password_guessing",
            Self::Stuffing => "credential_stuffing",
            Self::RefreshReuse => "refresh_token_reuse",
            Self::ImpossibleTravel => "impossible_travel",
            Self::MassInvitations => "mass_invitations",
            Self::MassDirect => "mass_direct_messages",
            Self::MassMentions => "mass_mentions",
            Self::MassReading => "mass_reading",
            Self::FilterEvasion => "filter_evasion",
            Self::PrivilegeJump => "privilege_jump",
            Self::InfectedFile => "infected_file",
            Self::AuditGap => "audit_gap",
        }
    }

    /// How bad it is.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::ImpossibleTravel
            | Self::MassInvitations
            | Self::MassDirect
            | Self::MassMentions
            | Self::MassReading
            | Self::FilterEvasion
            | Self::Guessing
            | Self::PrivilegeJump
            | Self::InfectedFile => Severity::Warning,
            Self::Stuffing | Self::RefreshReuse | Self::AuditGap => Severity::Critical,
        }
    }
}

/// What a detector found.
#[derive(Clone, PartialEq, Debug)]
pub struct Finding {
    /// What it is.
    pub suspicion: Suspicion,
    /// The account that acted, or that is attacked. Unknown if the login may not be one.
    pub user: Option<UserId>,
    /// The session that acted.
    pub session: Option<SessionId>,
    /// The address or network that it came from.
    pub address: Option<String>,
    /// What happened, for people and programs.
    pub details: Map<String, Value>,
    /// Findings of one attack have the same.
    pub key: String,
}

impl Finding {
    pub(super) fn new(suspicion: Suspicion, subject: &str, details: Value) -> Self {
        let details = if let Value::Object(details) = details { details } else { Map::new() };
        let key = format!("{} {subject}", suspicion.as_str());
        Self { suspicion, user: None, session: None, address: None, details, key }
    }

    pub(super) fn by(self, user: Option<UserId>) -> Self {
        Self { user, ..self }
    }

    pub(super) fn at_address(self, address: &str) -> Self {
        Self { address: Some(address.to_owned()), ..self }
    }
}
