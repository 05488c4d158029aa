//! The captcha of a registration: what a browser received for solving it is checked with the service that made it.
//!
//! hCaptcha, Turnstile and reCAPTCHA share the form `siteverify`: a POST of `secret`, `response` and `remoteip`, which
//! is answered with JSON that has `success`.
//!
//! Invariants:
//! - only `success: true` lets a registration go on. Otherwise a service that is down would let programs in;
//! - a check takes [`TIMEOUT`] at most, reads [`ANSWER_BYTES_MAX`] at most, and [`CHECKS_MAX`] run at the same time.
//!   Otherwise a slow service would hold every registration, and its sockets;
//! - [`CHECKS_PER_NETWORK_MAX`] of them are of one client network. Otherwise one address could have every check, while
//!   the service is slow, and nobody else could register;
//! - no redirect is followed: the secret goes to the configured address only.

use super::problem::Problem;
use crate::address::ClientNetwork;
use crate::error::Refusal;
use crate::faults::{root_cause, warn_limited};
use crate::mesh::quota::{Quota, QuotaRefusal};
use axum::http::StatusCode;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long a check may take: the request of its registration has a deadline of its own.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Checks that run at the same time.
const CHECKS_MAX: usize = 32;
/// The same for one network: an IPv4 address, or an IPv6 /64.
const CHECKS_PER_NETWORK_MAX: usize = 4;
/// What is said when a network has as many. A check takes about a second.
const NETWORK_IS_BUSY: QuotaRefusal = QuotaRefusal {
    limiter: "captchas",
    scope: "address",
    detail: "Too many registrations from your network are under way. Wait a moment, then try again.",
    retry_ms: 2_000,
};

const _: () = assert!(CHECKS_PER_NETWORK_MAX * 4 <= CHECKS_MAX);

/// Longest response of a widget. Those of today have at most 2 KiB.
const RESPONSE_BYTES_MAX: usize = 8 * 1024;
/// When a registration may be tried again after the service has failed.
const RETRY_MS: u64 = 30_000;

/// `security.captcha_…`.
#[derive(Clone, PartialEq, Eq)]
pub struct CaptchaSettings {
    /// Where responses are checked.
    pub verify_url: String,
    /// What the service knows this server by.
    pub secret: String,
    /// What the service knows the widget by.
    pub site_key: String,
    /// The widget's script, for the web client.
    pub script_url: Option<String>,
}

/// Why captchas cannot be checked at all.
#[derive(Debug, thiserror::Error)]
pub enum CaptchaFault {
    /// The address cannot be read.
    #[error("security.captcha_verify_url is not the address of a service: {0}")]
    Address(#[from] hyper::http::uri::InvalidUri),
    /// The machine has no certificates.
    #[error("the certificates of this machine, which security.captcha_verify_url needs, cannot be read: {0}")]
    Certificates(#[from] std::io::Error),
}

/// What a browser needs to show the widget.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct WidgetView {
    site_key: String,
    script_url: Option<String>,
}

enum ServiceClient {
    Plain(Client<HttpConnector, Full<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

/// The captcha service.
pub struct Captcha {
    settings: CaptchaSettings,
    address: Uri,
    transport: ServiceClient,
    places: Arc<Semaphore>,
    networks: Quota<ClientNetwork>,
}

/// The answer of the service.
#[derive(Deserialize)]
struct CaptchaVerdict {
    success: bool,
    #[serde(default, rename = "error-codes")]
    errors: Vec<String>,
}

impl Captcha {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// [`CaptchaFault`].
    pub fn new(settings: CaptchaSettings) -> Result<Self, CaptchaFault> {
        let address: Uri = settings.verify_url.parse()?;
        let executor = TokioExecutor::new();
        let transport = if address.scheme_str() == Some("http") {
            ServiceClient::Plain(Client::builder(executor).build_http())
        } else {
            let connector = HttpsConnectorBuilder::new().with_native_roots()?.https_only().enable_http1().build();
            ServiceClient::Tls(Client::builder(executor).build(connector))
        };
        let (places, networks) = (Arc::new(Semaphore::new(CHECKS_MAX)), Quota::new(CHECKS_PER_NETWORK_MAX));
        Ok(Self { settings, address, transport, places, networks })
    }

    pub(super) fn widget(&self) -> WidgetView {
        let CaptchaSettings { site_key, script_url, .. } = self.settings.clone();
        WidgetView { site_key, script_url }
    }

    /// The origin of the widget's script, which the page must be allowed to load.
    pub(super) fn script_origin(&self) -> Option<&str> {
        let url = self.settings.script_url.as_deref()?;
        let authority = url.find("://")? + 3;
        let end = url[authority..].find(['/', '?', '#']).map_or(url.len(), |at| authority + at);
        Some(&url[..end])
    }

    /// Checks the response of a widget.
    ///
    /// # Errors
    /// `bad_request` without a solved captcha, `rate_limited`, `overloaded`, and `captcha_unavailable` if the service
    /// gives no verdict.
    pub(super) async fn check(&self, response: Option<&str>, client: IpAddr) -> Result<(), Problem> {
        let Some(response) = response.filter(|text| !text.is_empty()) else {
            let detail = "captcha: Registrations need a solved captcha. GET /auth/register/challenge names the widget.";
            return Err(Problem::bad_request(detail));
        };
        if response.len() > RESPONSE_BYTES_MAX {
            return Err(not_solved());
        }
        let _of_network = self.networks.admit_or(ClientNetwork::of(client), &NETWORK_IS_BUSY)?;
        let Ok(_place) = self.places.try_acquire() else {
            return Err(Refusal::overloaded("the checks of captchas", ("captchas", "server", CHECKS_MAX)).into());
        };
        let verdict = tokio::time::timeout(TIMEOUT, self.ask(response, &client.to_canonical().to_string())).await;
        let verdict = verdict.unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())));
        match verdict {
            Ok(CaptchaVerdict { success: true, .. }) => Ok(()),
            Ok(CaptchaVerdict { errors, .. }) if errors.iter().any(|error| error.ends_with("-input-secret")) => {
                Err(unavailable(&format!("it does not accept security.captcha_secret ({})", errors.join(", "))))
            }
            Ok(_) => Err(not_solved()),
            Err(reason) => Err(unavailable(&reason)),
        }
    }

    async fn ask(&self, response: &str, ip: &str) -> Result<CaptchaVerdict, String> {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("secret", &self.settings.secret)
            .append_pair("response", response)
            .append_pair("remoteip", ip)
            .finish();
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.address.clone())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(Full::new(Bytes::from(form)))
            .map_err(|error| error.to_string())?;
        let answer = match &self.transport {
            ServiceClient::Plain(client) => client.request(request).await,
            ServiceClient::Tls(client) => client.request(request).await,
        };
        let answer = answer.map_err(|error| root_cause(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(format!("its answer has the status {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| format!("its answer cannot be read: {error}"))?.to_bytes();
        serde_json::from_slice(&body).map_err(|error| format!("its answer is no verdict: {error}"))
    }
}

fn not_solved() -> Problem {
    Problem::bad_request("captcha: It was not solved, or has expired. Solve it again.")
}

fn unavailable(reason: &str) -> Problem {
    warn_limited!(reason, "the captcha service gave no verdict, so nobody can register");
    let detail = "The captcha could not be checked, so nobody can register now. Try again in a moment.";
    let mut problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "captcha_unavailable", detail);
    problem.retry_after_ms = Some(RETRY_MS);
    problem
}
