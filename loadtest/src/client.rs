//! A WebSocket client for measurements that send one command at a time, or only listen.
//!
//! It is not the generator of `loadtest run`, which is made for many connections and checks what it receives.

use crate::setup::api::Target;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

/// Whatever takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A frame of the server's, its data unread.
#[derive(Debug, Deserialize)]
pub struct ReceivedFrame<'a> {
    /// What it is: `ack`, `error`, or an event.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// The command's number, in replies.
    #[serde(default)]
    pub id: Option<u64>,
    /// Everything else.
    #[serde(borrow, default)]
    pub data: Option<&'a RawValue>,
}

impl ReceivedFrame<'_> {
    /// The code and the words of a refusal.
    pub fn words(&self) -> String {
        let value: Value = self.data.and_then(|data| serde_json::from_str(data.get()).ok()).unwrap_or_default();
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        format!("{}: {}", text("code"), text("message"))
    }
}

/// How a command was answered.
#[derive(Debug)]
pub struct Reply {
    /// The ack's data, or the refusal's code.
    pub outcome: Result<Box<RawValue>, String>,
    /// From the send to its arrival.
    pub took: Duration,
}

/// One connection.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    next_id: u64,
}

fn lost(error: impl std::fmt::Display) -> String {
    format!("the WebSocket broke: {error}")
}

impl Socket {
    /// Connects as the owner of `token`, subscribed to nothing, and reads the welcome.
    ///
    /// # Errors
    /// What failed.
    pub async fn open(target: &Target, token: &str) -> Result<Self, String> {
        let mut request =
            format!("ws://{}/ws?subscribe=none", target.authority()).into_client_request().map_err(lost)?;
        let bearer = HeaderValue::from_str(&format!("Bearer {token}")).map_err(lost)?;
        request.headers_mut().insert("authorization", bearer);
        let opened = tokio::time::timeout(PATIENCE, async {
            let stream = TcpStream::connect(target.resolve()?).await.map_err(lost)?;
            stream.set_nodelay(true).map_err(lost)?;
            let (stream, _) = tokio_tungstenite::client_async(request, stream).await.map_err(lost)?;
            let mut socket = Self { stream, next_id: 1 };
            socket.next(|frame| (frame.kind == "welcome").then_some(())).await?;
            Ok(socket)
        });
        opened.await.map_err(|_| "the server does not answer an upgrade".to_owned())?
    }

    /// Reads frames until `wanted` takes one.
    ///
    /// # Errors
    /// That the connection ended.
    pub async fn next<T>(&mut self, mut wanted: impl FnMut(&ReceivedFrame<'_>) -> Option<T>) -> Result<T, String> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => {
                    let frame = serde_json::from_str(&text).map_err(|error| format!("an odd frame: {error}"))?;
                    if let Some(taken) = wanted(&frame) {
                        return Ok(taken);
                    }
                }
                Some(Ok(Message::Close(frame))) => {
                    return Err(lost(frame.map_or_else(String::new, |frame| frame.reason.to_string())));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(lost(error)),
                None => return Err(lost("its end")),
            }
        }
    }

    /// Sends a command; its number.
    ///
    /// # Errors
    /// That the connection ended.
    pub async fn send(&mut self, command: &str, data: &Value) -> Result<u64, String> {
        let id = self.next_id;
        self.next_id += 1;
        self.send_text(json!({ "type": command, "id": id, "data": data }).to_string()).await?;
        Ok(id)
    }

    /// Sends a text as it is.
    ///
    /// # Errors
    /// That the connection ended.
    pub async fn send_text(&mut self, text: String) -> Result<(), String> {
        self.stream.send(Message::text(text)).await.map_err(lost)
    }

    /// Sends a command and waits for its reply; events that come meanwhile are dropped.
    ///
    /// # Errors
    /// When the connection ends or no reply arrives.
    pub async fn ask(&mut self, command: &str, data: &Value) -> Result<Reply, String> {
        self.ask_hearing(command, data, |_| {}).await
    }

    /// Sends a command and waits for its reply; `hear` receives every frame until then, and the reply.
    ///
    /// # Errors
    /// When the connection ends or no reply arrives.
    pub async fn ask_hearing(
        &mut self,
        command: &str,
        data: &Value,
        mut hear: impl FnMut(&ReceivedFrame<'_>),
    ) -> Result<Reply, String> {
        let began = Instant::now();
        let id = self.send(command, data).await?;
        let reply = self.next(|frame| {
            hear(frame);
            let outcome = || if frame.kind == "ack" { Ok(owned(frame.data)) } else { Err(frame.words()) };
            (frame.id == Some(id)).then(outcome)
        });
        let outcome = tokio::time::timeout(PATIENCE, reply).await.map_err(|_| format!("{command}: no reply"))??;
        Ok(Reply { outcome, took: began.elapsed() })
    }

    /// Ends the connection without waiting for the server's close frame.
    pub async fn close(mut self) {
        // The server may have closed it already.
        let _ = self.stream.close(None).await;
    }
}

fn owned(data: Option<&RawValue>) -> Box<RawValue> {
    data.unwrap_or(RawValue::NULL).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_without_its_data() {
        let frame: ReceivedFrame<'_> = serde_json::from_str(r#"{"type":"ack","id":7,"data":{"a":[1,2]}}"#).unwrap();
        assert_eq!((frame.kind, frame.id, frame.data.map(RawValue::get)), ("ack", Some(7), Some(r#"{"a":[1,2]}"#)));
        let event: ReceivedFrame<'_> = serde_json::from_str(r#"{"type":"presence","data":{}}"#).unwrap();
        assert_eq!((event.kind, event.id), ("presence", None));
        let refusal = r#"{"type":"error","id":3,"data":{"code":"overloaded","message":"wait"}}"#;
        assert_eq!(serde_json::from_str::<ReceivedFrame<'_>>(refusal).unwrap().words(), "overloaded: wait");
    }
}
