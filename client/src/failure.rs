//! How a command can fail, and the exit status of each failure.
//!
//! Invariant: the same cause has the same status in every subcommand, because scripts branch on it. Messages from the
//! server are sanitized for the terminal here, because only this module prints them.

use crate::text;
use serde_json::{Value, json};
use std::fmt;

/// An error that the server returned.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Refusal {
    /// The error code; stable, for programs.
    pub code: String,
    /// The explanation, for people.
    pub message: String,
    /// When to send the same request again, in milliseconds from now.
    pub retry_after_ms: Option<u64>,
    /// With `two_factor_required`: what a code answers.
    pub challenge: Option<String>,
}

/// Why a command failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The server returned an error.
    Refused(Refusal),
    /// Wrong usage, or a file on this machine cannot be read or written.
    Usage(String),
    /// There is no session, or it has ended.
    NotSignedIn(String),
    /// There is no answer, or it is not from a Veza Chat Server.
    Unreachable(String),
    /// The reader of the output has ended (`veza history … | head`).
    OutputGone,
}

impl Refusal {
    /// Reads the body of a problem, or the data of an `error` frame; `None` when it is neither.
    pub fn read(value: &Value) -> Option<Self> {
        let message = value["detail"].as_str().or(value["message"].as_str()).unwrap_or("no reason given");
        Some(Self {
            code: value["code"].as_str()?.to_owned(),
            message: message.to_owned(),
            retry_after_ms: value["retry_after_ms"].as_u64(),
            challenge: value["challenge"].as_str().map(str::to_owned),
        })
    }

    /// Whether the same request may succeed in a moment.
    pub fn is_transient(&self) -> bool {
        matches!(self.code.as_str(), "storage_unavailable" | "overloaded" | "deadline_exceeded")
    }
}

impl Failure {
    /// The exit status.
    pub fn status(&self) -> u8 {
        match self {
            Self::OutputGone => 0,
            Self::Refused(_) => 1,
            Self::Usage(_) => 2,
            Self::NotSignedIn(_) => 3,
            Self::Unreachable(_) => 4,
        }
    }

    /// The failure as JSON.
    pub fn to_json(&self) -> Value {
        let (code, retry_after_ms) = match self {
            Self::Refused(refusal) => (refusal.code.as_str(), refusal.retry_after_ms),
            Self::Usage(_) => ("usage", None),
            Self::NotSignedIn(_) => ("not_signed_in", None),
            Self::Unreachable(_) => ("unreachable", None),
            Self::OutputGone => ("output_gone", None),
        };
        let message = match self {
            Self::Refused(refusal) => refusal.message.clone(),
            other => other.to_string(),
        };
        let mut error = json!({ "code": code, "message": message });
        if let Some(ms) = retry_after_ms {
            error["retry_after_ms"] = ms.into();
        }
        json!({ "error": error })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => {
                write!(f, "{} ({})", text::line(&refusal.message), text::line(&refusal.code))?;
                if refusal.code == "unknown_command" {
                    f.write_str("; the server may be older than this client")?;
                }
                match refusal.retry_after_ms {
                    Some(ms) => write!(f, "; try again in {} s", ms.div_ceil(1_000)),
                    None => Ok(()),
                }
            }
            Self::Usage(text) | Self::NotSignedIn(text) | Self::Unreachable(text) => f.write_str(&text::line(text)),
            Self::OutputGone => f.write_str("the reader of the output has ended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_problems_and_error_frames() {
        let problem = json!({"title": "Forbidden", "status": 403, "detail": "no", "code": "forbidden"});
        let frame = json!({"code": "forbidden", "message": "no"});
        assert_eq!(Refusal::read(&problem), Refusal::read(&frame));
        assert_eq!(Refusal::read(&json!({"error": "from a proxy"})), None);
    }

    #[test]
    fn server_messages_cannot_control_the_terminal() {
        let mut refusal = Refusal::read(&json!({"code": "x\u{1b}[2J", "message": "a\nb\u{9b}1m"})).unwrap();
        refusal.retry_after_ms = Some(1);
        let shown = Failure::Refused(refusal).to_string();
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
        assert!(shown.ends_with("try again in 1 s"), "{shown}");
    }
}
