//! One attempt at a delivery.
//!
//! Invariants:
//! - an attempt takes the configured time at most, with everything that it does;
//! - of the response to a delivery, the status and `Retry-After` count. Its body is not read: it could be endless, and
//!   it could quote what the owner of the webhook may not read. The answer to a slash command is read up to a bound.

use super::connect::HookClients;
use super::retry;
use super::signature;
use super::target::{AddressPolicy, HookTarget};
use crate::faults::root_cause;
use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// Bytes of the answer to a slash command.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Characters of an error that are recorded.
const ERROR_CHARS_MAX: usize = 200;

/// Outcome of an attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SendOutcome {
    /// When it began.
    pub at: OffsetDateTime,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// The status of the response.
    pub status: Option<u16>,
    /// Why it failed; none after a success.
    pub error: Option<String>,
    /// When the receiver wants the next attempt.
    pub retry_after: Option<Duration>,
}

impl SendOutcome {
    /// Whether the receiver has accepted the delivery.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.error.is_none()
    }

    /// Whether the receiver has no room for requests now.
    #[must_use]
    pub fn is_overloaded(&self) -> bool {
        [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE]
            .map(|status| Some(status.as_u16()))
            .contains(&self.status)
    }

    /// Whether the receiver wants no delivery any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.status == Some(StatusCode::GONE.as_u16())
    }
}

/// Sends deliveries.
pub struct HookSender {
    clients: HookClients,
    policy: Arc<AddressPolicy>,
    time_max: Duration,
}

impl HookSender {
    /// Connects to nothing yet. An attempt takes `time_max` at most; `names` is for [`HookClients::new`].
    ///
    /// # Errors
    /// When the machine has no certificates.
    pub fn new(policy: AddressPolicy, time_max: Duration, names: &Handle) -> io::Result<Self> {
        let policy = Arc::new(policy);
        Ok(Self { clients: HookClients::new(&policy, names)?, policy, time_max })
    }

    /// Where deliveries may go.
    #[must_use]
    pub fn policy(&self) -> &AddressPolicy {
        &self.policy
    }

    /// Sends `body` once, signed with each of the secrets.
    pub async fn send(&self, url: &str, id: &str, secrets: &[Vec<u8>], body: Bytes) -> SendOutcome {
        let (at, began) = (OffsetDateTime::now_utc(), Instant::now());
        let sent = timeout(self.time_max, self.exchange(url, id, secrets, at.unix_timestamp(), body)).await;
        let ms = began.elapsed().as_millis() as u64;
        let (status, retry_after, error) = match sent {
            Ok(Ok((status, retry_after))) => (Some(status), retry_after, failure_of(status)),
            Ok(Err(reason)) => (None, None, Some(reason)),
            Err(_) => (None, None, Some(format!("no response within {} s", self.time_max.as_secs_f32()))),
        };
        let error = error.map(|error| error.chars().take(ERROR_CHARS_MAX).collect());
        SendOutcome { at, ms, status: status.map(|status| status.as_u16()), error, retry_after }
    }

    /// Posts `body` once and reads the response, of at most [`ANSWER_BYTES_MAX`] bytes. The whole takes `time` at most.
    ///
    /// # Errors
    /// Why there is no response of the status 200.
    pub async fn ask(&self, url: &str, id: &str, secret: &[u8], body: Bytes, time: Duration) -> Result<Bytes, String> {
        let now_s = OffsetDateTime::now_utc().unix_timestamp();
        let asked = async {
            let response = self.posted(url, id, &[secret.to_vec()], now_s, body).await?;
            if response.status() != StatusCode::OK {
                return Err(format!("the response has the status {}", response.status().as_u16()));
            }
            let read = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            read.map(Collected::to_bytes).map_err(|error| error.to_string())
        };
        timeout(time, asked).await.unwrap_or_else(|_| Err("no response in time".to_owned()))
    }

    async fn exchange(
        &self,
        url: &str,
        id: &str,
        secrets: &[Vec<u8>],
        now_s: i64,
        body: Bytes,
    ) -> Result<(StatusCode, Option<Duration>), String> {
        let response = self.posted(url, id, secrets, now_s, body).await?;
        let status = response.status();
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| retry::retry_after(value, now_s));
        Ok((status, retry_after))
    }

    async fn posted(
        &self,
        url: &str,
        id: &str,
        secrets: &[Vec<u8>],
        now_s: i64,
        body: Bytes,
    ) -> Result<Response<Incoming>, String> {
        // Again: the operator may allow less than when the webhook was created.
        let target = HookTarget::parse(url, &self.policy).map_err(|error| error.to_string())?;
        let signature = signature::sign(secrets.iter().map(Vec::as_slice), id, now_s, &body);
        let request = Request::builder()
            .method(Method::POST)
            .uri(target.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("Veza-Chat-Server/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", id)
            .header("webhook-timestamp", now_s)
            .header("webhook-signature", signature)
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        let sent = if target.is_encrypted() {
            self.clients.encrypted.request(request).await
        } else {
            self.clients.plain.request(request).await
        };
        sent.map_err(|error| root_cause(&error))
    }
}

/// Why a response is a failure; `None` for 2xx.
fn failure_of(status: StatusCode) -> Option<String> {
    if status.is_success() {
        return None;
    }
    Some(if status.is_redirection() {
        format!("the response has the status {}, and redirects are not followed", status.as_u16())
    } else {
        format!("the response has the status {}", status.as_u16())
    })
}
