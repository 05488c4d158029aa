//! HTTP requests: the answer is JSON, or a problem with a code.
//!
//! Deliberately absent:
//! - proxies from the environment. `follow` opens a WebSocket directly; both must reach the same server;
//! - redirects. A password is sent to the server that the user named, and to no other.

use crate::address::Address;
use crate::failure::{Failure, Refusal};
use reqwest::Response;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::time::Duration;

/// Longer than the server's deadline for commands.
const TIMEOUT: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client of one server.
#[derive(Clone)]
pub struct Http {
    client: reqwest::Client,
    address: Address,
}

/// A request; `path` begins with a slash.
pub struct Request<'a> {
    /// GET, POST …
    pub method: Method,
    /// The path on the server.
    pub path: &'a str,
    /// The access token.
    pub token: Option<&'a str>,
    /// The JSON body.
    pub body: Option<&'a Value>,
}

impl Http {
    /// Creates a client, which connects with the first request.
    pub fn new(address: Address) -> Result<Self, Failure> {
        let agent = concat!("veza/", env!("CARGO_PKG_VERSION"));
        let builder = reqwest::Client::builder().no_proxy().redirect(Policy::none()).user_agent(agent);
        let client = builder.timeout(TIMEOUT).connect_timeout(CONNECT_TIMEOUT).build();
        let client = client.map_err(|error| Failure::Usage(format!("no HTTP client: {error}")))?;
        Ok(Self { client, address })
    }

    /// The server.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// POST without a token.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(Request { method: Method::POST, path, token: None, body: Some(body) }).await
    }

    /// GET without a token.
    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.send(Request { method: Method::GET, path, token: None, body: None }).await
    }

    /// Sends a request and returns the body of the answer; null when it has none.
    pub async fn send(&self, request: Request<'_>) -> Result<Value, Failure> {
        let lost = |error: reqwest::Error| self.lost(&error);
        let mut builder = self.client.request(request.method, self.address.http(request.path));
        if let Some(token) = request.token {
            builder = builder.bearer_auth(token);
        }
        if let Some(body) = request.body {
            builder = builder.json(body);
        }
        let response = builder.send().await.map_err(lost)?;
        let status = response.status();
        let body = response.bytes().await.map_err(lost)?;
        if status == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        let value = serde_json::from_slice::<Value>(&body).ok();
        let refusal = value.as_ref().and_then(Refusal::read);
        match (value, refusal) {
            (Some(value), _) if status.is_success() => Ok(value),
            (_, Some(refusal)) if !status.is_success() => Err(Failure::Refused(refusal)),
            _ => {
                let message = format!("{} answered {status}; is it a Veza Chat Server?", self.address);
                Err(Failure::Unreachable(message))
            }
        }
    }
}

/// A request whose body, or answer, is bytes.
pub struct Bytes<'a> {
    /// PATCH, HEAD, GET.
    pub method: Method,
    /// The path on the server.
    pub path: &'a str,
    /// The access token.
    pub token: &'a str,
    /// Fields of the request.
    pub fields: &'a [(&'static str, String)],
    /// The body.
    pub body: Vec<u8>,
}

impl Http {
    /// Sends bytes, or asks for them. Returns the answer, whose body is still to come; `lasts` bounds both.
    pub async fn bytes(&self, request: Bytes<'_>, lasts: Duration) -> Result<Response, Failure> {
        let mut fields = HeaderMap::new();
        for (name, value) in request.fields {
            let value = HeaderValue::from_str(value).map_err(|error| Failure::Usage(format!("{name}: {error}")))?;
            fields.insert(HeaderName::from_static(name), value);
        }
        let builder = self.client.request(request.method, self.address.http(request.path)).timeout(lasts);
        let sent = builder.bearer_auth(request.token).headers(fields).body(request.body).send().await;
        let response = sent.map_err(|error| self.lost(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(|error| self.lost(&error))?;
        let refusal = serde_json::from_slice(&body).ok().as_ref().and_then(Refusal::read);
        // An answer to HEAD has no body.
        let code = match status.as_u16() {
            401 => "unauthenticated",
            404 => "not_found",
            410 => "expired",
            409 | 423 => "conflict",
            429 => "rate_limited",
            500.. => "overloaded",
            _ => "refused",
        };
        let plain =
            Refusal { code: code.into(), message: format!("the server answered {status}"), ..Refusal::default() };
        Err(Failure::Refused(refusal.unwrap_or(plain)))
    }

    /// The failure when there is no answer, or no more of it.
    pub fn lost(&self, error: &reqwest::Error) -> Failure {
        Failure::Unreachable(format!("{}: {}", self.address, root(error)))
    }
}

/// The root cause: "Connection refused" rather than "error sending request".
fn root(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
