//! The phases of a crowd.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a crowd does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresencePhase {
    /// All connect within a second.
    Come,
    /// All lose their connection and are back, within half a second.
    Blink,
    /// All change their status several times within half a second.
    Toggle,
    /// All leave within half a second.
    Leave,
}

impl PresencePhase {
    /// In this order.
    pub const ALL: [Self; 4] = [Self::Come, Self::Blink, Self::Toggle, Self::Leave];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Come => "come",
            Self::Blink => "disconnect and reconnect",
            Self::Toggle => "change status",
            Self::Leave => "leave",
        }
    }

    /// The time that all of it is spread over.
    pub(super) fn spread(self) -> Duration {
        if self == Self::Come { Duration::from_secs(1) } else { Duration::from_millis(500) }
    }

    /// Changes of one user.
    pub(super) fn changes(self, toggles: u32) -> u64 {
        match self {
            Self::Come | Self::Leave => 1,
            Self::Blink => 2,
            Self::Toggle => toggles.into(),
        }
    }
}
