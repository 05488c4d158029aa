//! How a command can fail, and the exit status that says so.
//!
//! Invariant: one cause, one status, in every subcommand; scripts branch on it. What the server says is made harmless
//! for the terminal here, since no other place prints it.

use crate::text;
use serde_json::{Value, json};
use std::fmt;

/// The server's no.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Stable, machine-readable.
    pub code: String,
    /// For people.
    pub message: String,
    /// When the same request makes sense again, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

/// Why a command did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The server answered no.
    Refused(Refusal),
    /// The command makes no sense, or a file of this machine cannot be read or written.
    Usage(String),
    /// There is no session, or it has ended.
    NotSignedIn(String),
    /// No answer, or not one of a Veza Chat Server's.
    Unreachable(String),
    /// Nobody reads the output any more (`veza history … | head`).
    OutputGone,
}

impl Refusal {
    /// From a problem's body or an `error` frame's data; `None` when it is neither.
    pub fn read(value: &Value) -> Option<Self> {
        let words = value["detail"].as_str().or(value["message"].as_str()).unwrap_or("no reason given");
        Some(Self {
            code: value["code"].as_str()?.to_owned(),
            message: words.to_owned(),
            retry_after_ms: value["retry_after_ms"].as_u64(),
        })
    }

    /// Whether the same request can succeed in a moment without anybody changing anything.
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

    /// The same for programs.
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
            Self::Usage(words) | Self::NotSignedIn(words) | Self::Unreachable(words) => f.write_str(&text::line(words)),
            Self::OutputGone => f.write_str("nobody reads the output any more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_and_an_error_frame_read_alike() {
        let problem = json!({"title": "Forbidden", "status": 403, "detail": "no", "code": "forbidden"});
        let frame = json!({"code": "forbidden", "message": "no"});
        assert_eq!(Refusal::read(&problem), Refusal::read(&frame));
        assert_eq!(Refusal::read(&json!({"error": "from a proxy"})), None);
    }

    #[test]
    fn words_of_the_server_cannot_control_the_terminal() {
        let refusal = Refusal { code: "x\u{1b}[2J".into(), message: "a\nb\u{9b}1m".into(), retry_after_ms: Some(1) };
        let shown = Failure::Refused(refusal).to_string();
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
        assert!(shown.ends_with("try again in 1 s"), "{shown}");
    }
}
