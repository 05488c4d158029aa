//! Refusals over HTTP: RFC 9457 `application/problem+json`.
//!
//! Clients branch on `code`, which is stable; `detail` is for people. The code is text and not [`ErrorCode`], because
//! HTTP has a few codes of its own (`refresh_reused`, `method_not_allowed` …).

use crate::error::{ErrorCode, Refusal};
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use std::borrow::Cow;

/// A refusal as an HTTP response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// HTTP status.
    pub status: StatusCode,
    /// Stable, machine-readable.
    pub code: &'static str,
    /// What is wrong and what to do.
    pub detail: Cow<'static, str>,
    /// After how many milliseconds the same request may succeed.
    pub retry_after_ms: Option<u64>,
    /// Details for programs: a map.
    pub details: Option<Box<serde_json::Value>>,
    /// Extension members of their own (RFC 9457 section 3.2).
    pub members: Option<Box<Members>>,
}

/// Extension members by name.
pub type Members = serde_json::Map<String, serde_json::Value>;

/// An extension of the response that carries the code to the layer that counts errors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProblemCode(pub &'static str);

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a serde_json::Value>,
    #[serde(flatten)]
    members: Option<&'a Members>,
}

impl Problem {
    /// A problem with a code that only HTTP has.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, detail: detail.into(), retry_after_ms: None, details: None, members: None }
    }

    /// The same with an extension member.
    #[must_use]
    pub fn with(mut self, name: &str, value: serde_json::Value) -> Self {
        self.members.get_or_insert_default().insert(name.to_owned(), value);
        self
    }

    /// 400 `bad_request`; `detail` begins with the name of the field, if one is wrong.
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Refusal::bad_request(detail).into()
    }

    /// 401 `unauthenticated`.
    pub fn unauthenticated(detail: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(ErrorCode::Unauthenticated, detail).into()
    }

    /// 404 `not_found`.
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(ErrorCode::NotFound, detail).into()
    }

    /// 500 `internal`; the cause has been logged.
    #[must_use]
    pub fn internal() -> Self {
        Refusal::new(ErrorCode::Internal, "The server has a fault. It has been logged. Try again later.").into()
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self {
            status: StatusCode::from_u16(refusal.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            code: refusal.code.as_str(),
            detail: refusal.message,
            retry_after_ms: refusal.retry_after_ms,
            details: refusal.details,
            members: None,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Body {
            r#type: "about:blank",
            // RFC 9457 §4.2.1: with about:blank the title is the status's phrase.
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            retry_after_ms: self.retry_after_ms,
            details: self.details.as_deref(),
            members: self.members.as_deref(),
        };
        // PROOF: strings, integers and JSON values always serialise.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        response.extensions_mut().insert(ProblemCode(self.code));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §15.5.2 demands a challenge.
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"veza-chat\""));
        }
        if let Some(ms) = self.retry_after_ms {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000).max(1)));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_valid_status() {
        for code in ErrorCode::ALL {
            let problem = Problem::from(Refusal::new(*code, "a reason"));
            assert_eq!(problem.status.as_u16(), code.http_status(), "{code}");
        }
    }

    #[tokio::test]
    async fn extension_members_stand_beside_the_others() {
        let problem = Problem::unauthenticated("a reason").with("challenge", "abc".into()).with("methods", 7.into());
        let body = axum::body::to_bytes(problem.into_response().into_body(), 4_096).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["challenge"], &body["methods"], &body["status"]), (&"abc".into(), &7.into(), &401.into()));
    }

    #[tokio::test]
    async fn a_refusal_becomes_problem_json() {
        let response = Problem::from(Refusal::storage_unavailable().retry_after(1_001)).into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let body = axum::body::to_bytes(response.into_body(), 4_096).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["type"], "about:blank");
        assert_eq!(body["title"], "Service Unavailable");
        assert_eq!(body["status"], 503);
        assert_eq!(body["code"], "storage_unavailable");
        assert_eq!(body["retry_after_ms"], 1_001);
    }
}
