//! The server's HTTP calls, with errors that say what failed, where, and what to do.
//!
//! Invariants:
//! - an answer "not now" (429, 503) is retried, for at most [`PATIENCE`] in total. Setting up thousands of users meets
//!   the server's rate limits, and that is no failure;
//! - a call is retried only if that is harmless. This is true of all calls here: a second registration is a conflict,
//!   and a second join changes nothing.

use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;
use tokio::time::Instant;

/// How long one call is retried when the server answers "later".
const PATIENCE: Duration = Duration::from_mins(2);
/// Longest single wait between two attempts.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Attempts when the connection breaks during a call.
const BROKEN_MAX: u32 = 3;

/// The address of the server under test.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    host: String,
    port: u16,
}

impl Target {
    /// Reads `http://host:port`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = reqwest::Url::parse(text)
            .map_err(|error| format!("not an address ({error}); write for example http://127.0.0.1:8080"))?;
        match url.scheme() {
            "http" => {}
            "https" => {
                return Err("the harness does not speak TLS, whose cost would blur the figures; give it the server's \
                            plain http:// address, behind the proxy"
                    .to_owned());
            }
            other => return Err(format!("{other}:// is not supported; write http://host:port")),
        }
        let host = url.host_str().ok_or("no host in the address")?.to_owned();
        let port = url.port_or_known_default().ok_or("no port in the address")?;
        Ok(Self { host, port })
    }

    /// The host and port as a URL's authority.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The first address the host resolves to.
    pub fn resolve(&self) -> Result<SocketAddr, String> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let mut found =
            (host, self.port).to_socket_addrs().map_err(|error| format!("cannot resolve {host}: {error}"))?;
        found.next().ok_or_else(|| format!("{host} has no address"))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

/// Why a call failed.
#[derive(Debug)]
pub enum ApiError {
    /// No answer: no program listens there, or the connection was lost.
    Unreachable {
        /// The call.
        call: String,
        /// The reason.
        reason: String,
    },
    /// The server refused.
    Refused {
        /// The call.
        call: String,
        /// The HTTP status.
        status: u16,
        /// The stable code; empty when the answer was not a problem document.
        code: String,
        /// The server's message.
        detail: String,
    },
    /// An answer that is not in the protocol.
    Unexpected {
        /// The call.
        call: String,
        /// Its fault.
        reason: String,
    },
}

impl ApiError {
    /// The stable code of a refusal.
    pub fn code(&self) -> &str {
        if let Self::Refused { code, .. } = self { code } else { "" }
    }

    /// The HTTP status of a refusal.
    pub fn status(&self) -> Option<u16> {
        if let Self::Refused { status, .. } = self { Some(*status) } else { None }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { call, reason } => {
                write!(f, "{call}: no answer ({reason}). Is the server running, and is --url its address?")
            }
            Self::Refused { call, status, code, detail } => {
                write!(f, "{call}: refused with status {status}")?;
                if !code.is_empty() {
                    write!(f, " {code}")?;
                }
                if detail.is_empty() { Ok(()) } else { write!(f, ": {detail}") }
            }
            Self::Unexpected { call, reason } => write!(f, "{call}: {reason}. Is --url a Veza Chat Server?"),
        }
    }
}

/// An RFC 9457 problem, as far as it matters here.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Problem {
    code: String,
    detail: String,
    title: String,
    retry_after_ms: Option<u64>,
}

/// Calls one server.
#[derive(Clone, Debug)]
pub struct Api {
    http: reqwest::Client,
    target: Target,
}

impl Api {
    /// A caller of `target`.
    pub fn new(target: Target) -> Result<Self, ApiError> {
        Self::from_address(target, None)
    }

    /// A caller of `target` with this source address.
    pub fn from_address(target: Target, source: Option<IpAddr>) -> Result<Self, ApiError> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .local_address(source)
            .timeout(Duration::from_mins(1))
            .pool_idle_timeout(Duration::from_secs(3))
            .build()
            .map_err(|error| ApiError::Unreachable { call: "HTTP client".to_owned(), reason: error.to_string() })?;
        Ok(Self { http, target })
    }

    /// The server called.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// POSTs `body` to `path`, with the retries that the module describes.
    pub async fn post<B, A>(&self, path: &str, token: Option<&str>, body: &B) -> Result<A, ApiError>
    where
        B: Serialize + Sync,
        A: DeserializeOwned,
    {
        let call = format!("POST {}{path}", self.target);
        let deadline = Instant::now() + PATIENCE;
        let mut broken = 0;
        loop {
            let mut request = self.http.post(format!("{}{path}", self.target)).json(body);
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let response = match request.send().await {
                Ok(response) => response,
                Err(error) => {
                    broken += 1;
                    if error.is_connect() || error.is_timeout() || broken >= BROKEN_MAX {
                        return Err(ApiError::Unreachable { call, reason: root_cause(&error) });
                    }
                    continue;
                }
            };
            let status = response.status();
            if status.is_success() {
                return response.json().await.map_err(|error| ApiError::Unexpected {
                    call,
                    reason: format!("odd answer: {}", root_cause(&error)),
                });
            }
            let header_wait = response
                .headers()
                .get("retry-after")
                .and_then(|value| value.to_str().ok()?.parse().ok())
                .map(Duration::from_secs);
            let text = response.text().await.unwrap_or_default();
            let problem: Problem = serde_json::from_str(&text).unwrap_or_default();
            let wait = problem.retry_after_ms.map(Duration::from_millis).or(header_wait);
            let later = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
            if later && Instant::now() < deadline {
                tokio::time::sleep(wait.unwrap_or(Duration::from_millis(500)).min(WAIT_MAX)).await;
                continue;
            }
            let detail = if problem.detail.is_empty() { problem.title } else { problem.detail };
            return Err(ApiError::Refused { call, status: status.as_u16(), code: problem.code, detail });
        }
    }

    /// Deletes what `path` names, in one attempt.
    pub async fn delete(&self, path: &str, token: &str) -> Result<(), ApiError> {
        let call = format!("DELETE {}{path}", self.target);
        let sent = self.http.delete(format!("{}{path}", self.target)).bearer_auth(token).send().await;
        match sent {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) => {
                let status = response.status().as_u16();
                Err(ApiError::Refused { call, status, code: String::new(), detail: String::new() })
            }
            Err(error) => Err(ApiError::Unreachable { call, reason: root_cause(&error) }),
        }
    }

    /// GETs a page as text, in one attempt.
    pub async fn get_text(&self, path: &str) -> Result<String, ApiError> {
        let call = format!("GET {}{path}", self.target);
        let unreachable =
            |error: reqwest::Error| ApiError::Unreachable { call: call.clone(), reason: root_cause(&error) };
        let response = self.http.get(format!("{}{path}", self.target)).send().await.map_err(unreachable)?;
        let status = response.status();
        let text = response.text().await.map_err(unreachable)?;
        if status.is_success() {
            return Ok(text);
        }
        Err(ApiError::Refused { call, status: status.as_u16(), code: String::new(), detail: String::new() })
    }

    /// Runs one command of the WebSocket protocol over HTTP.
    pub async fn command<D, A>(&self, token: &str, kind: &str, data: D) -> Result<A, ApiError>
    where
        D: Serialize + Sync,
        A: DeserializeOwned,
    {
        #[derive(Serialize)]
        struct Body<'a, D> {
            r#type: &'a str,
            data: D,
        }
        self.post("/api/commands", Some(token), &Body { r#type: kind, data }).await.map_err(|error| match error {
            ApiError::Refused { call, status, code, detail } => {
                ApiError::Refused { call: format!("{call} ({kind})"), status, code, detail }
            }
            other => other,
        })
    }
}

/// The innermost reason, which says more than "error sending request".
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_addresses_and_explains_bad_ones() {
        let target = Target::parse("http://localhost:9000/").expect("valid");
        assert_eq!(target.to_string(), "http://localhost:9000");
        assert_eq!(Target::parse("http://[::1]:80").expect("valid").authority(), "[::1]:80");
        assert!(Target::parse("https://chat.example").is_err_and(|why| why.contains("TLS")));
        assert!(Target::parse("ws://chat.example").is_err_and(|why| why.contains("http://host:port")));
        assert!(Target::parse("chat").is_err());
    }
}
