//! One WebSocket to the server: commands with their replies, and events in the order of their arrival.
//!
//! Invariant: events that arrive while a reply is awaited are queued for [`Socket::event`]; none is dropped or
//! reordered.

use crate::address::Address;
use crate::failure::{Failure, Refusal};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// The connection is dead when nothing arrives for two heartbeats and this time.
const IDLE_SLACK: Duration = Duration::from_secs(10);
const HEARTBEAT_MS_DEFAULT: u64 = 30_000;

const GOING_AWAY: u16 = 1001;
const TOKEN_EXPIRED: u16 = 4001;
const SESSION_REVOKED: u16 = 4002;

/// Why a connection ended or could not be opened.
#[derive(PartialEq, Eq, Debug)]
pub enum End {
    /// Reconnect after `wait` or later.
    Lost {
        /// The cause, for people.
        why: String,
        /// The wait that the server asks for.
        wait: Duration,
    },
    /// Reconnect with a new token.
    TokenExpired,
    /// Reconnecting would end in the same way.
    Final(Failure),
}

impl End {
    fn lost(why: impl Into<String>) -> Self {
        Self::Lost { why: why.into(), wait: Duration::ZERO }
    }

    /// From an error for a command or for the upgrade.
    pub fn refused(refusal: Refusal) -> Self {
        match refusal.code.as_str() {
            "unauthenticated" => Self::TokenExpired,
            _ if refusal.is_transient() => {
                let wait = Duration::from_millis(refusal.retry_after_ms.unwrap_or(0));
                Self::Lost { why: Failure::Refused(refusal).to_string(), wait }
            }
            _ => Self::Final(Failure::Refused(refusal)),
        }
    }

    /// From an `error` without an id, which answers no command: the subscription to `conversation` has ended. `None`
    /// for other events, and for other conversations.
    pub fn unsubscribed(event: &Value, conversation: &str) -> Option<Self> {
        let named = &event["data"]["details"]["conversation_id"];
        let is_ours = event["type"] == "error" && (named.is_null() || *named == *conversation);
        is_ours
            .then(|| Refusal::read(&event["data"]).map_or_else(|| Self::lost("an error without a code"), Self::refused))
    }

    /// From a close frame; its reason is `{"code", "reconnect", "retry_after_ms"}`.
    fn closed(frame: Option<CloseFrame>) -> Self {
        let Some(frame) = frame else { return Self::lost("the server closed the connection") };
        let number = u16::from(frame.code);
        let reason: Value = serde_json::from_str(&frame.reason).unwrap_or_default();
        let word = reason["code"].as_str().unwrap_or("closed").to_owned();
        match (number, reason["reconnect"].as_bool()) {
            (TOKEN_EXPIRED, _) => Self::TokenExpired,
            (SESSION_REVOKED, _) => Self::Final(Failure::NotSignedIn("the session was revoked; sign in again".into())),
            (GOING_AWAY, _) | (_, Some(true)) => {
                let wait = Duration::from_millis(reason["retry_after_ms"].as_u64().unwrap_or(0));
                Self::Lost { why: format!("the server closed the connection ({number} {word})"), wait }
            }
            (_, Some(false)) => {
                let message = format!("the server closed the connection ({number})");
                Self::Final(Failure::Refused(Refusal { code: word, message, ..Refusal::default() }))
            }
            (_, None) => Self::lost(format!("the connection was closed ({number})")),
        }
    }
}

/// An open connection.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    events: VecDeque<Value>,
    next_id: i64,
    idle_max: Duration,
    /// The id of the signed-in user, from `welcome`.
    pub user_id: Option<i64>,
}

impl Socket {
    /// Connects without subscriptions; `conversation` lets the server choose the shard that owns it.
    pub async fn open(address: &Address, token: &str, conversation: &str) -> Result<Self, End> {
        let target = address.websocket(&format!("/ws?subscribe=none&conversation={conversation}"));
        let invalid = |why: String| End::Final(Failure::Usage(why));
        let mut request = target.into_client_request().map_err(|error| invalid(error.to_string()))?;
        let bearer = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|error| invalid(error.to_string()))?;
        let headers = request.headers_mut();
        headers.insert(header::AUTHORIZATION, bearer);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("veza.v1.json"));
        let opened = tokio::time::timeout(OPEN_TIMEOUT, tokio_tungstenite::connect_async(request)).await;
        let (stream, _) = opened.map_err(|_| End::lost(format!("{address}: no answer in time")))?.map_err(|error| {
            let Error::Http(response) = error else { return End::lost(format!("{address}: {error}")) };
            let body = response.body().as_deref().unwrap_or_default();
            let refusal = serde_json::from_slice::<Value>(body).ok().and_then(|body| Refusal::read(&body));
            match (response.status().as_u16(), refusal) {
                (401, _) => End::TokenExpired,
                (_, Some(refusal)) => End::refused(refusal),
                (status, None) => End::lost(format!("{address} answered {status}")),
            }
        })?;
        let idle_max = 2 * Duration::from_millis(HEARTBEAT_MS_DEFAULT) + IDLE_SLACK;
        let mut socket = Self { stream, events: VecDeque::new(), next_id: 1, idle_max, user_id: None };
        let welcome = socket.receive().await?;
        if welcome["type"] != "welcome" {
            return Err(End::lost(format!("{address} did not send welcome; is it a Veza Chat Server?")));
        }
        let welcome = &welcome["data"];
        socket.user_id = welcome["user"]["id"].as_i64();
        let heartbeat_ms = welcome["heartbeat_ms"].as_u64().unwrap_or(HEARTBEAT_MS_DEFAULT);
        socket.idle_max = Duration::from_millis(heartbeat_ms.saturating_mul(2)) + IDLE_SLACK;
        Ok(socket)
    }

    /// Sends a command and returns the data of its ack. After an error the connection is not used again.
    pub async fn command(&mut self, kind: &str, data: Value) -> Result<Value, End> {
        let id = self.next_id;
        self.next_id += 1;
        let command = json!({ "type": kind, "id": id, "data": data }).to_string();
        self.stream.send(Message::text(command)).await.map_err(|error| End::lost(error.to_string()))?;
        loop {
            let mut frame = self.receive().await?;
            match frame["type"].as_str() {
                Some("ack") if frame["id"] == id => return Ok(frame["data"].take()),
                Some("error") if frame["id"] == id => {
                    let refusal = Refusal::read(&frame["data"]);
                    return Err(refusal.map_or_else(|| End::lost("an error without a code"), End::refused));
                }
                _ => self.events.push_back(frame),
            }
        }
    }

    /// The next event.
    pub async fn event(&mut self) -> Result<Value, End> {
        match self.events.pop_front() {
            Some(event) => Ok(event),
            None => self.receive().await,
        }
    }

    /// The next frame. The library answers the server's pings; they show that the connection works.
    async fn receive(&mut self) -> Result<Value, End> {
        loop {
            let next = tokio::time::timeout(self.idle_max, self.stream.next()).await;
            let idle = || End::lost(format!("nothing arrived from the server for {} s", self.idle_max.as_secs()));
            match next.map_err(|_| idle())? {
                Some(Ok(Message::Text(text))) => {
                    return serde_json::from_str(&text).map_err(|error| End::lost(format!("not JSON: {error}")));
                }
                Some(Ok(Message::Close(frame))) => return Err(End::closed(frame)),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(End::lost(error.to_string())),
                None => return Err(End::lost("the connection ended")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(code: u16, reason: &str) -> End {
        End::closed(Some(CloseFrame { code: code.into(), reason: reason.to_owned().into() }))
    }

    #[test]
    fn reads_the_reason_of_a_close() {
        assert_eq!(closed(4001, r#"{"code":"token_expired","reconnect":true,"retry_after_ms":0}"#), End::TokenExpired);
        let End::Final(failure) = closed(4002, r#"{"code":"session_revoked","reconnect":false}"#) else { panic!() };
        assert_eq!(failure.status(), 3);
        let End::Final(failure) = closed(4004, r#"{"code":"too_many_connections","reconnect":false}"#) else {
            panic!()
        };
        assert_eq!(failure.status(), 1);
        for (code, reason, ms) in [
            (1001, r#"{"code":"going_away","reconnect":true,"retry_after_ms":700}"#, 700),
            (4003, r#"{"code":"too_slow","reconnect":true,"retry_after_ms":1000}"#, 1_000),
            (1011, "a proxy's words", 0),
        ] {
            let End::Lost { wait, .. } = closed(code, reason) else { panic!("{code}") };
            assert_eq!(wait, Duration::from_millis(ms));
        }
    }

    #[test]
    fn an_error_without_an_id_ends_the_subscription_that_it_names() {
        let event = |kind: &str, code: &str, details: Value| {
            End::unsubscribed(
                &json!({"type": kind, "data": {"code": code, "message": "m", "details": details}}),
                "room_6",
            )
        };
        let ours = json!({"conversation_id": "room_6"});
        for code in ["not_member", "conflict"] {
            let Some(End::Final(Failure::Refused(refusal))) = event("error", code, ours.clone()) else {
                panic!("{code}")
            };
            assert_eq!(refusal.code, code);
        }
        assert!(matches!(event("error", "overloaded", Value::Null), Some(End::Lost { .. })));
        assert_eq!(event("error", "not_member", json!({"conversation_id": "room_10"})), None);
        assert_eq!(event("message_created", "not_member", ours), None);
    }

    #[test]
    fn reads_the_reason_of_an_error() {
        let refused =
            |code: &str| End::refused(Refusal { code: code.into(), message: "m".into(), ..Refusal::default() });
        assert_eq!(refused("unauthenticated"), End::TokenExpired);
        assert!(matches!(refused("storage_unavailable"), End::Lost { .. }));
        assert!(matches!(refused("not_member"), End::Final(Failure::Refused(_))));
    }
}
