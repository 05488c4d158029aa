//! The states of a file.
//!
//! ```text
//!               all bytes are there              clean
//!   uploading ─────────────────────► scanning ─────────► ready
//!       │                               │ │
//!       │ not continued in time         │ └─────────────► infected   a virus was found
//!       ▼                               └───────────────► failed     not what its name or sender says, or not allowed
//!    expired
//! ```
//!
//! Invariants:
//! - only a file that is `ready` is served;
//! - the content of `infected`, `failed` and `expired` files is removed;
//! - nothing leaves a final state. So the verdict of a check that comes late, or twice, changes nothing.

use serde::{Deserialize, Serialize};

/// The state of a file; the names are the wire contract's and PostgreSQL's (`file_state`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileState {
    /// Bytes are missing.
    Uploading,
    /// Its content is being checked.
    Scanning,
    /// It can be read.
    Ready,
    /// A virus was found in it.
    Infected,
    /// It is not what it claims to be, or it is not allowed.
    Failed,
    /// It was not completed in time.
    Expired,
}

/// What happens to a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileEvent {
    /// All bytes are there.
    Completed,
    /// It was not continued in time.
    TimedOut,
    /// The check found nothing.
    Clean,
    /// The check found a virus.
    VirusFound,
    /// The check refuses it.
    Refused,
}

impl FileEvent {
    /// Every event.
    pub const ALL: [Self; 5] = [Self::Completed, Self::TimedOut, Self::Clean, Self::VirusFound, Self::Refused];
}

impl FileState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Uploading, Self::Scanning, Self::Ready, Self::Infected, Self::Failed, Self::Expired];

    /// As the wire and PostgreSQL name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uploading => "uploading",
            Self::Scanning => "scanning",
            Self::Ready => "ready",
            Self::Infected => "infected",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether some event leads to this state.
    #[must_use]
    pub fn can_become(self, state: Self) -> bool {
        FileEvent::ALL.into_iter().any(|event| self.after(event) == Some(state))
    }

    /// The state after an event; `None` if it has no effect.
    #[must_use]
    pub fn after(self, event: FileEvent) -> Option<Self> {
        match (self, event) {
            (Self::Uploading, FileEvent::Completed) => Some(Self::Scanning),
            (Self::Uploading, FileEvent::TimedOut) => Some(Self::Expired),
            (Self::Scanning, FileEvent::Clean) => Some(Self::Ready),
            (Self::Scanning, FileEvent::VirusFound) => Some(Self::Infected),
            (Self::Scanning, FileEvent::Refused) => Some(Self::Failed),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn final_states_are_final_and_only_a_clean_file_is_ready() {
        for state in FileState::ALL {
            let reached: Vec<_> = FileEvent::ALL.into_iter().filter_map(|event| state.after(event)).collect();
            let expected = match state {
                FileState::Uploading => vec![FileState::Scanning, FileState::Expired],
                FileState::Scanning => vec![FileState::Ready, FileState::Infected, FileState::Failed],
                _ => vec![],
            };
            assert_eq!(reached, expected, "{state:?}");
            assert_eq!(FileState::parse(state.as_str()), Some(state));
        }
        assert_eq!(FileState::Scanning.after(FileEvent::Clean), Some(FileState::Ready));
    }
}
