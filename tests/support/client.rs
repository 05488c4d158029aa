//! A WebSocket client in both formats. It reads only when it is asked to: one that is left alone is a slow reader.
//! Whatever it reads is held to the documents ([`protocol`]).

use super::{Log, PATIENCE, Server, User, code, protocol};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::{Error, Message};

/// The two subprotocols.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// `veza.v1.json`
    Json,
    /// `veza.v1.msgpack`
    MessagePack,
}

impl Format {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Json, Self::MessagePack];

    /// The subprotocol's name.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "veza.v1.json",
            Self::MessagePack => "veza.v1.msgpack",
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Json => Self::MessagePack,
            Self::MessagePack => Self::Json,
        }
    }

    /// A value as a message of this format.
    pub fn message(self, value: &Value) -> Message {
        match self {
            Self::Json => Message::text(value.to_string()),
            Self::MessagePack => Message::binary(rmp_serde::to_vec(value).unwrap()),
        }
    }
}

/// What a read of the socket gave.
#[derive(Clone, PartialEq, Debug)]
pub enum Received {
    /// A reply or an event.
    Frame(Value),
    /// The server's close frame: code and reason.
    Closed(u16, Value),
    /// The connection ended without one.
    Lost(String),
}

/// The code of a close frame; fails on anything else.
#[track_caller]
pub fn closed(received: &Received) -> u16 {
    match received {
        Received::Closed(code, reason) => {
            // The contract's form of a reason.
            assert!(reason["code"].is_string() && reason["reconnect"].is_boolean(), "{code}: {reason}");
            *code
        }
        other => panic!("a close frame expected: {other:?}"),
    }
}

/// A connection.
pub struct Client {
    socket: WebSocketStream<TcpStream>,
    format: Format,
    /// The first frame's data.
    pub welcome: Value,
    /// Pings that the server has sent.
    pub pings: u32,
    next_id: i64,
    /// Commands without a reply so far.
    asked: HashMap<i64, Value>,
    events: VecDeque<Value>,
    replies: HashMap<i64, Value>,
}

/// Opens a WebSocket at `target` with these headers.
pub async fn upgrade(
    server: &Server,
    target: &str,
    headers: &[(&str, &str)],
    receive_buffer: Option<u32>,
) -> Result<WebSocketStream<TcpStream>, Error> {
    let mut request = format!("ws://{}{target}", server.address).into_client_request()?;
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
    }
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    let stream = socket.connect(server.address).await?;
    stream.set_nodelay(true)?;
    let opened = tokio::time::timeout(PATIENCE, tokio_tungstenite::client_async(request, stream)).await;
    let opened = opened.expect("the upgrade was not answered");
    if let Err(Error::Http(response)) = &opened {
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let length = header("content-length").and_then(|text| text.parse().ok());
        let whole = response.body().as_deref().filter(|body| length == Some(body.len()));
        protocol::saw_answer(&protocol::Exchange {
            method: "GET",
            target,
            sent: None,
            status: response.status().as_u16(),
            content_type: header("content-type"),
            body: whole,
        });
    }
    opened.map(|(socket, _)| socket)
}

/// The HTTP status with which an upgrade was refused.
#[track_caller]
pub fn connect_error(result: Result<WebSocketStream<TcpStream>, Error>) -> u16 {
    match result {
        Ok(_) => panic!("the upgrade was accepted"),
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(other) => panic!("the upgrade ended without an HTTP answer: {other:?}"),
    }
}

impl Client {
    /// Connects with `subscribe=all`.
    pub async fn all(server: &Server, user: &User, format: Format) -> Self {
        Self::open(server, user, format, "/ws").await
    }

    /// Connects with `subscribe=none`.
    pub async fn none(server: &Server, user: &User, format: Format) -> Self {
        Self::open(server, user, format, "/ws?subscribe=none").await
    }

    /// Connects to any target.
    pub async fn open(server: &Server, user: &User, format: Format, target: &str) -> Self {
        let opened = Self::try_open(server, user, format, target).await;
        opened.unwrap_or_else(|error| panic!("{target}: {error}\n{}", server.log_tail()))
    }

    /// The same, which may fail.
    pub async fn try_open(server: &Server, user: &User, format: Format, target: &str) -> Result<Self, String> {
        let bearer = format!("Bearer {}", user.token);
        let headers = [("authorization", bearer.as_str()), ("sec-websocket-protocol", format.subprotocol())];
        let socket = upgrade(server, target, &headers, None).await.map_err(|error| format!("{error:?}"))?;
        Self::welcomed(socket, format).await
    }

    /// Connects with a receive buffer of so many bytes, as a reader that will be slow.
    pub async fn slow(server: &Server, user: &User, format: Format, receive_buffer: u32) -> Self {
        let bearer = format!("Bearer {}", user.token);
        let headers = [("authorization", bearer.as_str()), ("sec-websocket-protocol", format.subprotocol())];
        let socket = upgrade(server, "/ws", &headers, Some(receive_buffer)).await.unwrap();
        Self::welcomed(socket, format).await.unwrap()
    }

    /// Takes over an open socket and reads the welcome.
    pub async fn welcomed(socket: WebSocketStream<TcpStream>, format: Format) -> Result<Self, String> {
        let (asked, events, replies) = (HashMap::new(), VecDeque::new(), HashMap::new());
        let mut client = Self { socket, format, welcome: Value::Null, pings: 0, next_id: 1, asked, events, replies };
        match client.receive().await {
            Received::Frame(first) if first["type"] == "welcome" => client.welcome = first["data"].clone(),
            other => return Err(format!("welcome expected: {other:?}")),
        }
        Ok(client)
    }

    /// The format it speaks.
    pub fn format(&self) -> Format {
        self.format
    }

    /// What comes next on the socket, whatever it is.
    #[track_caller]
    pub fn receive(&mut self) -> impl Future<Output = Received> + '_ {
        let caller = std::panic::Location::caller();
        async move {
            loop {
                let Ok(next) = tokio::time::timeout(PATIENCE, self.socket.next()).await else {
                    panic!("nothing came within {PATIENCE:?}; awaited at {caller}; unread events: {:?}", self.events);
                };
                match (next, self.format) {
                    (Some(Ok(Message::Text(text))), Format::Json) => {
                        let frame = serde_json::from_str(&text).expect("valid JSON");
                        return self.judged(frame);
                    }
                    (Some(Ok(Message::Binary(bytes))), Format::MessagePack) => {
                        let frame = rmp_serde::from_slice(&bytes).expect("valid MessagePack");
                        return self.judged(frame);
                    }
                    (Some(Ok(Message::Ping(_))), _) => self.pings += 1,
                    (Some(Ok(Message::Close(Some(frame)))), _) => {
                        let reason = serde_json::from_str(&frame.reason).unwrap_or(json!(frame.reason.as_str()));
                        protocol::saw_close(frame.code.into(), &reason);
                        return Received::Closed(frame.code.into(), reason);
                    }
                    (Some(Ok(Message::Close(None))), _) => return Received::Lost("close without a code".into()),
                    (Some(Err(error)), _) => return Received::Lost(error.to_string()),
                    (None, _) => return Received::Lost("end of the stream".into()),
                    (Some(Ok(other)), format) => panic!("a frame that does not belong on {format:?}: {other:?}"),
                }
            }
        }
    }

    /// A frame that is as the documents say; fails otherwise.
    fn judged(&mut self, frame: Value) -> Received {
        let is_ack = frame["type"] == "ack";
        let id = frame["id"].as_i64().filter(|_| is_ack || frame["type"] == "error");
        let asked = id.and_then(|id| self.asked.remove(&id));
        protocol::saw_frame(&frame, asked.as_ref().and_then(|command| command["type"].as_str()));
        if let Some(command) = asked.filter(|_| is_ack) {
            protocol::saw_command_acknowledged(&command);
        }
        Received::Frame(frame)
    }

    /// Sends a raw message; false when the connection is gone.
    pub async fn send_raw(&mut self, message: Message) -> bool {
        let sent = tokio::time::timeout(PATIENCE, self.socket.send(message)).await;
        sent.expect("the server reads nothing").is_ok()
    }

    /// Sends a command without waiting for its reply; its id.
    pub async fn send(&mut self, kind: &str, data: Value) -> i64 {
        let (id, message) = self.next_command(kind, &data);
        // Where the connection is gone, the next read says why.
        self.send_raw(message).await;
        id
    }

    fn next_command(&mut self, kind: &str, data: &Value) -> (i64, Message) {
        let id = self.next_id;
        self.next_id += 1;
        let command = json!({"type": kind, "id": id, "data": data});
        let message = self.format.message(&command);
        self.asked.insert(id, command);
        (id, message)
    }

    /// Queues a command; [`Self::flush`] sends what is queued.
    pub async fn feed(&mut self, kind: &str, data: Value) -> i64 {
        let (id, message) = self.next_command(kind, &data);
        let _ = self.socket.feed(message).await;
        id
    }

    /// Sends what is queued.
    pub async fn flush(&mut self) {
        let _ = self.socket.flush().await;
    }

    /// Reads one frame and puts it where it belongs; false at the connection's end.
    async fn step(&mut self) -> Result<(), Received> {
        match self.receive().await {
            Received::Frame(frame) => {
                let reply = frame["type"] == "ack" || frame["type"] == "error";
                match frame["id"].as_i64() {
                    Some(id) if reply => drop(self.replies.insert(id, frame)),
                    _ => self.events.push_back(frame),
                }
                Ok(())
            }
            end => Err(end),
        }
    }

    /// The reply to a command, or how the connection ended before it came.
    pub async fn try_reply(&mut self, id: i64) -> Result<Result<Value, Value>, Received> {
        loop {
            if let Some(mut reply) = self.replies.remove(&id) {
                let data = reply["data"].take();
                return Ok(if reply["type"] == "ack" { Ok(data) } else { Err(data) });
            }
            self.step().await?;
        }
    }

    /// The reply to a command.
    pub async fn reply(&mut self, id: i64) -> Result<Value, Value> {
        self.try_reply(id).await.unwrap_or_else(|end| panic!("the connection ended before the reply came: {end:?}"))
    }

    /// One command and its reply: the ack's data, or the refusal.
    pub async fn command(&mut self, kind: &str, data: Value) -> Result<Value, Value> {
        let id = self.send(kind, data).await;
        self.reply(id).await
    }

    /// One command that must be acknowledged.
    pub async fn ok(&mut self, kind: &str, data: Value) -> Value {
        let shown: String = format!("{kind} {data}").chars().take(300).collect();
        self.command(kind, data).await.unwrap_or_else(|refusal| panic!("{shown}: {refusal}"))
    }

    /// One command that must be refused; the code.
    pub async fn refused(&mut self, kind: &str, data: Value) -> String {
        let shown: String = format!("{kind} {data}").chars().take(300).collect();
        match self.command(kind, data).await {
            Ok(ack) => panic!("{shown} was acknowledged: {ack}"),
            Err(refusal) => {
                assert!(refusal["message"].as_str().is_some_and(|words| !words.is_empty()), "{shown}: {refusal}");
                code(&refusal)
            }
        }
    }

    /// The next event (or reply without an id) that was not taken yet.
    pub async fn next_event(&mut self) -> Value {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            if let Err(end) = self.step().await {
                panic!("the connection ended while an event was awaited: {end:?}");
            }
        }
    }

    /// The next event of this kind; those before it are dropped.
    pub async fn event(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next_event().await;
            if event["type"] == kind {
                return event["data"].clone();
            }
        }
    }

    /// The next event of this kind whose data is so; those before it are dropped.
    pub async fn event_where(&mut self, kind: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        loop {
            let data = self.event(kind).await;
            if is_so(&data) {
                return data;
            }
        }
    }

    /// Events that have come so far, which include whatever this shard sent before it answered a ping.
    pub async fn drain(&mut self) -> Vec<Value> {
        self.ok("ping", json!({})).await;
        self.events.drain(..).collect()
    }

    /// Reads until the connection ends; how. What came before is in [`Self::take_events`].
    pub async fn end(&mut self) -> Received {
        loop {
            if let Err(end) = self.step().await {
                return end;
            }
        }
    }

    /// Events that were read and not taken yet.
    pub fn take_events(&mut self) -> Vec<Value> {
        self.events.drain(..).collect()
    }

    /// Takes events until `log` has seen `seq` in a conversation; the messages among them.
    pub async fn follow(&mut self, log: &mut Log, conversation: &str, seq: i64) -> Vec<Value> {
        let mut messages = Vec::new();
        while log.last(conversation) < seq {
            let event = self.next_event().await;
            log.saw(&event);
            if event["type"] == "message_created" && event["data"]["conversation_id"] == conversation {
                messages.push(event["data"].clone());
            }
        }
        messages
    }

    /// Ends the connection properly.
    pub async fn close(mut self) {
        let _ = self.socket.close(None).await;
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}
