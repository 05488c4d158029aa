//! The vocabulary of refusals. Every layer refuses with an [`ErrorCode`] of the wire contract and a message with
//! instructions for people. The boundaries (WebSocket `error`, HTTP problem, close code) only translate it.
//!
//! Each code has a [`Disposition`], so that a client library knows what to do without parsing the message.

use serde::Serialize;
use std::borrow::Cow;
use std::fmt;

/// What a client should do after a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// The same request can succeed later. Wait for `retry_after_ms` if it is present.
    Retry,
    /// Sign in again or reconnect first.
    Reconnect,
    /// The same request will be refused again.
    Final,
}

macro_rules! error_codes {
    ($($variant:ident $text:literal $status:literal $disposition:ident $doc:literal;)*) => {
        /// The stable, machine-readable reason of a refusal.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode { $(#[doc = $doc] $variant,)* }

        impl ErrorCode {
            /// Every code, for documentation and metrics.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant,)*];

            /// The code on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$variant => $text,)* }
            }

            /// The status of the same refusal over HTTP.
            #[must_use]
            pub fn http_status(self) -> u16 {
                match self { $(ErrorCode::$variant => $status,)* }
            }

            /// What a client should do.
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
    BadRequest "bad_request" 400 Final "A field is missing, has the wrong type, or is out of range.";
    UnknownCommand "unknown_command" 400 Final "There is no command with this name.";
    TooLarge "too_large" 413 Final "A value is longer than its limit.";
    Unauthenticated "unauthenticated" 401 Reconnect "The token is missing or not valid.";
    Forbidden "forbidden" 403 Final "The user's role does not allow this.";
    TwoFactorRequired "two_factor_required" 403 Final "The account must have two-factor authentication first.";
    NotMember "not_member" 403 Final "The user is not a member of the conversation.";
    Muted "muted" 403 Retry "The user is muted in the conversation.";
    Banned "banned" 403 Final "The user is banned from the conversation.";
    Blocked "blocked" 403 Final "One of the two users has blocked the other.";
    ReadOnly "read_only" 403 Final "The conversation is read-only, or the user's role in it is.";
    NotFound "not_found" 404 Final "It does not exist, or the user may not see it.";
    Conflict "conflict" 409 Final "The request contradicts the current state.";
    RateLimited "rate_limited" 429 Retry "The user has used up the rate limit for this action.";
    SlowMode "slow_mode" 429 Retry "The conversation is in slow mode.";
    ContentRejected "content_rejected" 422 Final "The content filter rejected the text.";
    Filtered "filtered" 422 Final "A rule of the content filter does not allow the text, or holds it for a moderator.";
    StorageUnavailable "storage_unavailable" 503 Retry "PostgreSQL cannot be reached. Nothing was changed.";
    Overloaded "overloaded" 503 Retry "A queue is full. Nothing was changed.";
    DeadlineExceeded "deadline_exceeded" 504 Retry "No outcome in time; the change may have happened.";
    Internal "internal" 500 Final "The server has a fault.";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The reason of `not_found` for a conversation. It is the same whether the conversation does not exist, or is private
/// and the user is no member (`migrations/functions/rules/refuse_outsider.sql`).
pub const NO_SUCH_CONVERSATION: &str =
    "data.conversation_id: There is no such conversation, or you are not a member of it.";

/// A refused request, with a reason that its sender can act on. The request changed nothing, except that with
/// [`ErrorCode::DeadlineExceeded`] this is not known.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// The machine-readable reason.
    pub code: ErrorCode,
    /// What is wrong, where, and what to do.
    pub message: Cow<'static, str>,
    /// How long to wait before the same request, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Details for programs, such as the conversation or the limiter: a map.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<serde_json::Value>>,
}

impl Refusal {
    /// A refusal without `retry_after_ms`.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None, details: None }
    }

    /// The same refusal with `retry_after_ms`.
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

    /// [`ErrorCode::RateLimited`] by the limit called `limiter`: `limit` requests of a `scope` (`user`, `address` …) in
    /// `window_ms`, or at once if that is 0. Its details are those of the wire contract.
    pub fn rate_limited(
        message: impl Into<Cow<'static, str>>,
        limiter: &str,
        scope: &str,
        limit: u64,
        window_ms: u64,
    ) -> Self {
        Self::new(ErrorCode::RateLimited, message).with_details(limit_details(limiter, scope, limit, window_ms))
    }

    /// [`ErrorCode::BadRequest`].
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }

    /// [`ErrorCode::StorageUnavailable`]: nothing was changed.
    #[must_use]
    pub fn storage_unavailable() -> Self {
        Self::new(
            ErrorCode::StorageUnavailable,
            "The server cannot reach its database right now. Nothing was changed. Try again in a moment.",
        )
        .retry_after(1_000)
    }

    /// [`ErrorCode::StorageUnavailable`], because the change cannot be recorded: nothing was changed.
    #[must_use]
    pub fn audit_trail_busy() -> Self {
        Self::new(
            ErrorCode::StorageUnavailable,
            "The audit trail is locked, and this must be recorded in it. Nothing was changed. Try again in a moment.",
        )
        .retry_after(2_000)
    }

    /// [`ErrorCode::TwoFactorRequired`].
    #[must_use]
    pub fn two_factor_required() -> Self {
        Self::new(
            ErrorCode::TwoFactorRequired,
            "Your account needs two-factor authentication. Set it up with POST /auth/2fa/enable and POST \
             /auth/2fa/confirm, then try again.",
        )
    }

    /// [`ErrorCode::Overloaded`]: the bounded queue of `what` is full. Its limit is called `limiter`: so many of a
    /// `scope` (`server`, `connection`) may wait at once.
    #[must_use]
    pub fn overloaded(what: &'static str, (limiter, scope, limit): (&str, &str, usize)) -> Self {
        Self::new(
            ErrorCode::Overloaded,
            format!("Too much work is waiting ({what}). Nothing was changed. Try again in a moment."),
        )
        .with_details(limit_details(limiter, scope, limit as u64, 0))
        .retry_after(250)
    }
}

/// The details of a refusal by a limit, as for [`Refusal::rate_limited`].
#[must_use]
pub fn limit_details(limiter: &str, scope: &str, limit: u64, window_ms: u64) -> serde_json::Value {
    serde_json::json!({ "limiter": limiter, "scope": scope, "limit": limit, "window_ms": window_ms })
}
