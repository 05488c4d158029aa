//! What follows when a rule matches.

use serde::{Deserialize, Serialize};

/// What follows when a rule matches, the mildest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterAction {
    /// The text is sent, and listed for moderators.
    Flag,
    /// A moderator decides whether the text is sent.
    Hold,
    /// The text is refused.
    Refuse,
    /// It is refused, and its author is muted for a short time.
    Slow,
    /// It is refused, and its author is muted for longer.
    Mute,
}

impl FilterAction {
    /// Every action, in order.
    pub const ALL: [Self; 5] = [Self::Flag, Self::Hold, Self::Refuse, Self::Slow, Self::Mute];

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Hold => "hold",
            Self::Refuse => "refuse",
            Self::Slow => "slow",
            Self::Mute => "mute",
        }
    }

    /// How long the author is muted if the rule does not say, in seconds; 0 for no mute.
    #[must_use]
    pub fn mute_seconds(self) -> i64 {
        match self {
            Self::Flag | Self::Hold | Self::Refuse => 0,
            Self::Slow => 30,
            Self::Mute => 600,
        }
    }
}
