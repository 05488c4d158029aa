//! The one vocabulary of refusals: every layer refuses with an [`ErrorCode`] of the wire contract and words a person
//! can act on. The boundaries (WebSocket `error`, HTTP problem, close code) only translate it.
//!
//! Each code has a [`Disposition`], so that a client library knows what to do without reading the words.

use serde::Serialize;
use std::borrow::Cow;
use std::fmt;

/// What the receiver of a refusal should do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// The same request can succeed later; wait `retry_after_ms` if given.
    Retry,
    /// Sign in again or reconnect first.
    Reconnect,
    /// The same request will be refused again.
    Final,
}

macro_rules! error_codes {
    ($($variant:ident $text:literal $status:literal $disposition:ident $doc:literal;)*) => {
        /// Stable machine-readable reason of a refusal.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode { $(#[doc = $doc] $variant,)* }

        impl ErrorCode {
            /// Every code, for documentation and metrics.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant,)*];

            /// The code as it stands on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$variant => $text,)* }
            }

            /// The HTTP status with which the same refusal is answered there.
            #[must_use]
            pub fn http_status(self) -> u16 {
                match self { $(ErrorCode::$variant => $status,)* }
            }

            /// What to do about it.
            #[must_use]
            pub fn disposition(self) -> Disposition {
                match self { $(ErrorCode::$variant => Disposition::$disposition,)* }
            }

            /// The inverse of [`Self::as_str`].
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(ErrorCode::$variant),)* _ => None }
            }
        }
    };
}

error_codes! {
    BadRequest "bad_request" 400 Final "A field is missing, of the wrong type or out of range.";
    UnknownCommand "unknown_command" 400 Final "No command has this name.";
    TooLarge "too_large" 413 Final "A value is longer than its limit.";
    Unauthenticated "unauthenticated" 401 Reconnect "No valid token.";
    Forbidden "forbidden" 403 Final "The user's role does not allow it.";
    NotMember "not_member" 403 Final "The user is not a member of the conversation.";
    Muted "muted" 403 Retry "The user is muted here for a while.";
    Banned "banned" 403 Final "The user is banned here.";
    Blocked "blocked" 403 Final "One of the two users has blocked the other.";
    ReadOnly "read_only" 403 Final "The conversation, or the user's role in it, is read-only.";
    NotFound "not_found" 404 Final "It does not exist, or not for this user.";
    Conflict "conflict" 409 Final "It contradicts the present state.";
    RateLimited "rate_limited" 429 Retry "The user's budget for this action is spent.";
    SlowMode "slow_mode" 429 Retry "The conversation is in slow mode.";
    ContentRejected "content_rejected" 422 Final "The content filter refused the text.";
    StorageUnavailable "storage_unavailable" 503 Retry "PostgreSQL cannot be reached; nothing was changed.";
    Overloaded "overloaded" 503 Retry "A queue is full; nothing was changed.";
    DeadlineExceeded "deadline_exceeded" 504 Retry "No outcome in time: it may or may not have happened.";
    Internal "internal" 500 Final "A fault of the server's.";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request that was refused, and why, in words its sender can act on. Nothing was changed by it, except where
/// [`ErrorCode::DeadlineExceeded`] says that this is not known.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// Machine-readable reason.
    pub code: ErrorCode,
    /// What, where, what to do.
    pub message: Cow<'static, str>,
    /// How long to wait before the same request makes sense, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// What a program may want to know beside the code, such as the conversation or the limiter: a map.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<serde_json::Value>>,
}

impl Refusal {
    /// A refusal without a waiting time.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None, details: None }
    }

    /// The same with a waiting time in milliseconds.
    #[must_use]
    pub fn retry_after(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// The same with details for programs: a map.
    #[must_use]
    pub fn with_details(mut self, details: serde_json::Value) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// [`ErrorCode::BadRequest`].
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }

    /// PostgreSQL cannot be reached; says that nothing was changed.
    #[must_use]
    pub fn storage_unavailable() -> Self {
        Self::new(
            ErrorCode::StorageUnavailable,
            "the store cannot be reached right now; nothing was changed, send it again in a moment",
        )
        .retry_after(1_000)
    }

    /// A bounded queue is full; `what` names it.
    #[must_use]
    pub fn overloaded(what: &'static str) -> Self {
        Self::new(
            ErrorCode::Overloaded,
            format!("{what}: too much work is waiting; nothing was changed, send it again in a moment"),
        )
        .retry_after(250)
    }
}
