//! Extractors: the caller, the peer, a JSON body. Every refusal is a [`Problem`].

use super::{
    Control,
    clients::{Clients, NetworkPlace},
    problem::Problem,
    request_budget::RequestKind,
};
use crate::address::{ClientNetwork, RequestSource};
use crate::auth::bot_token::is_bot_token;
use crate::error::{ErrorCode, Refusal};
use crate::ids::{ConversationId, MAX_SAFE_INTEGER, SessionId, UserId};
use crate::limits::{
    HTTP_BODY_BYTES_MAX, HTTP_BODY_BYTES_PER_SECOND_MIN, HTTP_BODY_GRACE_MS, HTTP_BODY_TIMEOUT_MS, UNFINISHED_AFTER_MS,
};
use crate::mesh::bot_grant::{BotGrant, Scope, not_for_bots};
use crate::mesh::quota::QuotaPlace;
use crate::storage::accounts::two_factor::FactorState;
use crate::storage::bots::BotStore;
use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, MatchedPath, Path, Query, Request},
    http::{Extensions, HeaderMap, StatusCode, header, request::Parts},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

pub use super::ports::Caller;

/// Most bytes that are read and discarded of a body that is too large, so that its sender can read the response.
/// Closing a socket with unread bytes would reset it and lose the response.
const DRAIN_BYTES_MAX: usize = 1024 * 1024;

/// Shorter than the deadline of the request, so that a slow sender receives the reason.
const BODY_TIMEOUT: Duration = Duration::from_millis(HTTP_BODY_TIMEOUT_MS);

/// The requests of a session whose account must have two-factor authentication and has none yet: it can set it up.
const OPEN_WITHOUT_FACTOR: &[(&str, &str)] = &[
    ("GET", "/auth/2fa"),
    ("POST", "/auth/2fa/enable"),
    ("POST", "/auth/2fa/confirm"),
    ("POST", "/auth/2fa/backup-codes"),
    ("POST", "/auth/2fa/disable"),
    ("POST", "/auth/2fa/step-up"),
    ("POST", "/auth/logout"),
    ("GET", "/users/me"),
];

/// A method, a path, and the scope that the request needs.
type OpenToBots = (&'static str, &'static str, Option<Scope>);

/// The requests that a bot may send, and the scope that its token needs for each; `/api/commands` checks its commands.
/// Everything else is for people. Thus a bot cannot manage accounts, webhooks or other bots.
const OPEN_TO_BOTS: &[OpenToBots] = &[
    ("POST", "/api/commands", None),
    ("POST", "/ws-ticket", None),
    ("GET", "/users/me", Some(Scope::Read)),
    ("GET", "/users/{id}", Some(Scope::Read)),
    ("GET", "/conversations/{id}/commands", Some(Scope::Read)),
    ("POST", "/files", Some(Scope::Files)),
    ("POST", "/files/simple", Some(Scope::Files)),
    ("GET", "/files/{id}", Some(Scope::Files)),
    ("HEAD", "/files/{id}", Some(Scope::Files)),
    ("PATCH", "/files/{id}", Some(Scope::Files)),
    ("DELETE", "/files/{id}", Some(Scope::Files)),
    ("POST", "/files/{id}/link", Some(Scope::Files)),
    ("GET", "/files/{id}/{name}", Some(Scope::Files)),
    ("HEAD", "/files/{id}/{name}", Some(Scope::Files)),
    ("GET", "/files/{id}/variants/{kind}", Some(Scope::Files)),
    ("HEAD", "/files/{id}/variants/{kind}", Some(Scope::Files)),
];

/// What the token of a request says.
#[derive(Clone, Copy, Debug)]
pub struct TokenClaims {
    /// The user.
    pub user: UserId,
    /// The session; that of a bot's token is known once it was looked up.
    pub session: SessionId,
    /// When an access token expires, in seconds since 1970.
    pub expires_at_seconds: i64,
    /// The digest of a bot's token.
    bot_token: Option<[u8; 32]>,
}

/// What the token of the request permits, if it is a bot's. Extract it after the caller.
pub struct Granted(pub Option<Arc<BotGrant>>);

impl<S: Sync> FromRequestParts<S> for Granted {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get().cloned()))
    }
}

impl Granted {
    /// Passes if the token may be used in a conversation for a request about files.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn require(&self, conversation: ConversationId) -> Result<(), Problem> {
        self.0.as_ref().map_or(Ok(()), |grant| Ok(grant.require_conversation(Scope::Files, conversation)?))
    }
}

impl FromRequestParts<Control> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Problem> {
        let (claims, _) = authenticate(parts, control).await?;
        Ok(caller(claims, parts))
    }
}

/// The caller of a read of accounts, which has a place among those of its user until the request ends.
pub struct AccountReader {
    /// The user and the session.
    pub caller: Caller,
    _place: QuotaPlace<UserId>,
}

impl FromRequestParts<Control> for AccountReader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Problem> {
        let mut claims = signed(parts, control)?;
        // Before the session is looked up, which takes a connection too.
        let place = control.account_reads().admit(claims.user)?;
        with_session(&mut claims, parts, control).await?;
        Ok(Self { caller: caller(claims, parts), _place: place })
    }
}

/// The caller of a change of its own profile. Changes beyond their budget are refused before the session is looked up.
pub struct ProfileEditor(pub Caller);

impl FromRequestParts<Control> for ProfileEditor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Problem> {
        let mut claims = signed(parts, control)?;
        control.profile_edits().check(claims.user, std::time::Instant::now())?;
        with_session(&mut claims, parts, control).await?;
        Ok(Self(caller(claims, parts)))
    }
}

/// The caller with these claims, and where the request came from.
pub(super) fn caller(claims: TokenClaims, parts: &Parts) -> Caller {
    Caller { user: claims.user, session: claims.session, source: Arc::new(source(parts)) }
}

/// Where a request came from.
fn source(parts: &Parts) -> RequestSource {
    let address = parts.extensions.get::<PeerAddress>().map(|peer| peer.0.ip());
    RequestSource::new(address, parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()))
}

impl<S: Sync> FromRequestParts<S> for RequestSource {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(source(parts))
    }
}

/// The claims of the access token and the second factor of its session, if the token is valid and the session may send
/// this request; counts the attempt.
pub(super) async fn authenticate(parts: &mut Parts, control: &Control) -> Result<(TokenClaims, FactorState), Problem> {
    let mut claims = signed(parts, control)?;
    let state = with_session(&mut claims, parts, control).await?;
    Ok((claims, state))
}

/// The claims of the access token, if it is valid, its session is not known to have ended, and its user may send
/// another request. Counts a failure, and charges the request.
pub(super) fn signed(parts: &Parts, control: &Control) -> Result<TokenClaims, Problem> {
    let claims = bearer(&parts.headers).and_then(|token| {
        let keys = &control.live().keys;
        let verified = if is_bot_token(token) {
            keys.read_bot_token(token).map(|read| TokenClaims {
                user: read.bot,
                session: session_of_token(&read.hash),
                expires_at_seconds: i64::MAX,
                bot_token: Some(read.hash),
            })
        } else {
            keys.verify_access(token, super::now_seconds()).map(|claims| TokenClaims {
                user: claims.user,
                session: claims.session,
                expires_at_seconds: claims.expires_at_seconds,
                bot_token: None,
            })
        };
        verified.map_err(|error| Problem::unauthenticated(error.to_string()))
    });
    let claims = claims.inspect_err(|_| control.metrics().auth_attempt("token", "failure"))?;
    if let Err(problem) = charge_as(parts, control, (claims.user, claims.bot_token.is_some()), claims.session) {
        if problem.status == StatusCode::UNAUTHORIZED {
            control.metrics().auth_attempt("token", "failure");
        }
        return Err(problem);
    }
    if claims.bot_token.is_some() && open_to_bots(parts).is_none() {
        return Err(not_for_bots().into());
    }
    Ok(claims)
}

/// A number for the digest of a bot's token, which no session has. Tokens that have ended are remembered by it.
fn session_of_token(hash: &[u8; 32]) -> SessionId {
    let number = hash.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes));
    SessionId(number | i64::MIN)
}

/// The row of this request in [`OPEN_TO_BOTS`].
fn open_to_bots(parts: &Parts) -> Option<&'static OpenToBots> {
    let path = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    OPEN_TO_BOTS.iter().find(|(method, known, _)| *method == parts.method.as_str() && *known == path)
}

/// Charges a request of a person by a session, unless that is known to have ended.
pub(super) fn charge(parts: &Parts, control: &Control, user: UserId, session: SessionId) -> Result<(), Problem> {
    charge_as(parts, control, (user, false), session)
}

fn charge_as(
    parts: &Parts,
    control: &Control,
    (user, is_bot): (UserId, bool),
    session: SessionId,
) -> Result<(), Problem> {
    let (requests, now) = (control.requests(), std::time::Instant::now());
    if requests.has_ended(session, now) {
        return Err(ended());
    }
    let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    Ok(requests.charge_as(RequestKind::of(route), (user, is_bot), now)?)
}

fn ended() -> Problem {
    Problem::unauthenticated("The session was revoked. Sign in again.")
}

/// The state of an active session that may send this request; counts the attempt. It asks PostgreSQL, so the request
/// must have been charged ([`signed`]).
pub(super) async fn with_session(
    claims: &mut TokenClaims,
    parts: &mut Parts,
    control: &Control,
) -> Result<FactorState, Problem> {
    let state = match claims.bot_token {
        Some(hash) => bot_session(claims, &hash, parts, control).await,
        None => active_session(control, claims.user, claims.session).await,
    };
    let result = match &state {
        Ok(_) => "success",
        Err(problem) if problem.status == StatusCode::UNAUTHORIZED => "failure",
        Err(_) => "error",
    };
    control.metrics().auth_attempt("token", result);
    let state = state?;
    control.requests().note_age(claims.user, state.account_age_s);
    // A bot cannot have a second factor.
    let is_person = claims.bot_token.is_none();
    let policy = &control.live().factor_policy;
    if is_person && !state.enabled && policy.requires(claims.user) && !is_open_without_factor(parts) {
        return Err(Refusal::two_factor_required().into());
    }
    Ok(state)
}

/// Looks up the session of a bot's token. What it permits becomes an extension of the request ([`Granted`]).
async fn bot_session(
    claims: &mut TokenClaims,
    hash: &[u8; 32],
    parts: &mut Parts,
    control: &Control,
) -> Result<FactorState, Problem> {
    let used = BotStore::new(control.accounts().clone()).use_token(claims.user, hash).await?;
    let used = used.ok_or_else(|| {
        control.requests().note_ended(claims.session, std::time::Instant::now());
        Problem::unauthenticated("The bot's token was revoked or has expired. Its owner can create another one.")
    })?;
    if let Some((_, _, Some(scope))) = open_to_bots(parts) {
        used.grant.require(*scope)?;
    }
    claims.session = used.session;
    parts.extensions.insert(used.grant);
    Ok(FactorState { enabled: false, fresh: false, may_read: false, account_age_s: used.account_age_s })
}

/// The state of an active session. One that has ended is remembered, so that its next requests cost nothing.
pub(super) async fn active_session(
    control: &Control,
    user: UserId,
    session: SessionId,
) -> Result<FactorState, Problem> {
    let state = control.accounts().session_state(user, session).await?;
    state.ok_or_else(|| {
        control.requests().note_ended(session, std::time::Instant::now());
        ended()
    })
}

fn is_open_without_factor(parts: &Parts) -> bool {
    let path = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    OPEN_WITHOUT_FACTOR.contains(&(parts.method.as_str(), path))
}

pub(super) fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let value = headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| Problem::unauthenticated("The header `Authorization: Bearer <access token>` is missing."))?;
    value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty())
        .map(|(_, token)| token.trim())
        .ok_or_else(|| Problem::unauthenticated("The Authorization header must read `Bearer <access token>`."))
}

/// The client's address: the other end of the TCP connection, or what a trusted proxy says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerAddress(pub SocketAddr);

impl PeerAddress {
    /// The address as text; an IPv4-mapped IPv6 address as IPv4.
    #[must_use]
    pub fn ip(self) -> String {
        self.0.ip().to_canonical().to_string()
    }

    /// The address.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.0.ip()
    }

    /// What a client controls: the IPv4 address, or the IPv6 /64.
    #[must_use]
    pub fn network(self) -> ClientNetwork {
        ClientNetwork::of(self.0.ip())
    }
}

impl<S: Sync> FromRequestParts<S> for PeerAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let unknown = Self(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0));
        Ok(parts.extensions.get::<Self>().copied().unwrap_or(unknown))
    }
}

/// The `User-Agent`, if it is text: the default name of a device.
#[derive(Clone, Debug)]
pub struct Agent(pub Option<String>);

impl<S: Sync> FromRequestParts<S> for Agent {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).map(str::to_owned)))
    }
}

/// A body of at most [`HTTP_BODY_BYTES_MAX`] bytes.
#[derive(Clone, Debug)]
pub struct RawBody(pub Bytes);

impl<S: Sync> FromRequest<S> for RawBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        read_body(request).await.map(Self)
    }
}

async fn read_body(request: Request) -> Result<Bytes, Problem> {
    let (parts, body) = request.into_parts();
    let mut reading = pin!(read_bounded(body));
    let soon = tokio::time::timeout(Duration::from_millis(UNFINISHED_AFTER_MS), reading.as_mut()).await;
    if let Ok(read) = soon {
        return read;
    }
    let _place = unfinished_place(&parts.extensions)?;
    reading.await
}

/// A place among the unfinished requests of the client's network.
pub(super) fn unfinished_place(extensions: &Extensions) -> Result<Option<NetworkPlace>, Problem> {
    let client = extensions.get::<Clients>().zip(extensions.get::<PeerAddress>());
    client.map(|(clients, peer)| clients.admit_unfinished(peer.0.ip())).transpose()
}

/// How long the next bytes of a body may take, counted from its beginning.
fn time_for(received: usize) -> Duration {
    let for_bytes_ms = received as u64 * 1_000 / HTTP_BODY_BYTES_PER_SECOND_MIN;
    Duration::from_millis(HTTP_BODY_GRACE_MS + for_bytes_ms).min(BODY_TIMEOUT)
}

async fn read_bounded(body: Body) -> Result<Bytes, Problem> {
    let started = Instant::now();
    let mut stream = body.into_data_stream();
    let mut kept = BytesMut::new();
    let mut total = 0;
    loop {
        let time = time_for(total);
        let chunk = match tokio::time::timeout_at(started + time, stream.next()).await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(_) if time < BODY_TIMEOUT => {
                return Err(too_late(
                    "The body arrives too slowly. Nothing was changed. Send at least 1 KiB a second.",
                ));
            }
            Err(_) => return Err(too_late("The body did not arrive in time. Nothing was changed. Send it again.")),
        };
        let chunk = chunk.map_err(|_| Problem::bad_request("The body ended before it was complete. Send it again."))?;
        total += chunk.len();
        if total <= HTTP_BODY_BYTES_MAX {
            kept.extend_from_slice(&chunk);
        } else {
            kept.clear();
            if total > HTTP_BODY_BYTES_MAX + DRAIN_BYTES_MAX {
                break;
            }
        }
    }
    if total > HTTP_BODY_BYTES_MAX {
        let detail = format!("The body is larger than {HTTP_BODY_BYTES_MAX} bytes. Send less.");
        return Err(Refusal::new(ErrorCode::TooLarge, detail).into());
    }
    Ok(kept.freeze())
}

fn too_late(detail: &'static str) -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT, ErrorCode::DeadlineExceeded.as_str(), detail)
}

/// A JSON body. The `Content-Type` is ignored, so that simple scripts work. This is safe, because every request needs a
/// bearer token or a password, which a page of another origin does not have.
#[derive(Clone, Debug)]
pub struct Json<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let body = read_body(request).await?;
        if body.is_empty() {
            return Err(Problem::bad_request("The body is empty. Send a JSON object."));
        }
        serde_json::from_slice(&body).map(Self).map_err(|error| {
            let what = if error.is_data() { "The body has a wrong field" } else { "The body is not JSON" };
            Problem::bad_request(format!("{what}: {error}."))
        })
    }
}

/// The query string.
#[derive(Clone, Debug)]
pub struct QueryString<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for QueryString<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Query::try_from_uri(&parts.uri).map(|Query(value)| Self(value)).map_err(|rejection| {
            Problem::bad_request(format!("The query string has a wrong field: {}.", rejection.body_text()))
        })
    }
}

/// `{id}` of the path: an integer in the range of identifiers.
#[derive(Clone, Copy, Debug)]
pub struct PathId(pub i64);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await.map(|Path(text)| text).unwrap_or_default();
        match text.parse() {
            Ok(id @ 1..=MAX_SAFE_INTEGER) => Ok(Self(id)),
            _ => Err(Problem::bad_request("id: Must be a positive integer below 2^53.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn the_scheme_is_bearer_in_any_case() {
        assert_eq!(bearer(&headers("Bearer abc")), Ok("abc"));
        assert_eq!(bearer(&headers("bearer  abc ")), Ok("abc"));
        for bad in ["abc", "Basic abc", "Bearer", "Bearer ", ""] {
            assert_eq!(bearer(&headers(bad)).unwrap_err().status, 401, "{bad:?}");
        }
        assert_eq!(bearer(&HeaderMap::new()).unwrap_err().code, "unauthenticated");
    }

    #[tokio::test]
    async fn the_body_limit_is_exact() {
        let body = |bytes| Request::new(Body::from(vec![b'x'; bytes]));
        assert_eq!(read_body(body(HTTP_BODY_BYTES_MAX)).await.unwrap().len(), HTTP_BODY_BYTES_MAX);
        let refused = read_body(body(HTTP_BODY_BYTES_MAX + 1)).await.unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.code), (413, "too_large"));
    }

    #[test]
    fn a_body_has_a_second_for_each_kibibyte_after_the_grace() {
        assert_eq!(time_for(0), Duration::from_secs(5));
        assert_eq!(time_for(1_023), Duration::from_millis(5_999));
        assert_eq!(time_for(3 * 1_024), Duration::from_secs(8));
        assert_eq!(time_for(5 * 1_024), BODY_TIMEOUT);
        assert_eq!(time_for(HTTP_BODY_BYTES_MAX), BODY_TIMEOUT);
    }

    #[test]
    fn a_mapped_address_reads_as_ipv4() {
        assert_eq!(PeerAddress("[::ffff:10.0.0.7]:9".parse().unwrap()).ip(), "10.0.0.7");
        assert_eq!(PeerAddress("[2001:db8::1]:9".parse().unwrap()).ip(), "2001:db8::1");
    }
}
