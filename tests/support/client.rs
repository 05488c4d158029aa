//! A WebSocket client for both formats. It reads from the socket only while a test waits for something, so a client
//! that a test leaves alone is a slow reader. Every frame that it reads is checked against the documents
//! ([`protocol`]).

use super::{Log, PATIENCE, Server, User, code, protocol};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};
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
    /// Both formats.
    pub const ALL: [Self; 2] = [Self::Json, Self::MessagePack];

    /// The name of the subprotocol.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "veza.v1.json",
            Self::MessagePack => "veza.v1.msgpack",
        }
    }

    /// The other format.
    pub fn other(self) -> Self {
        match self {
            Self::Json => Self::MessagePack,
            Self::MessagePack => Self::Json,
        }
    }

    /// Encodes a value as a WebSocket message.
    pub fn message(self, value: &Value) -> Message {
        match self {
            Self::Json => Message::text(value.to_string()),
            Self::MessagePack => Message::binary(rmp_serde::to_vec(value).unwrap()),
        }
    }
}

/// The result of a read.
#[derive(Clone, PartialEq, Debug)]
pub enum Received {
    /// A reply or an event.
    Frame(Value),
    /// A close frame: code and reason.
    Closed(u16, Value),
    /// The connection ended without a close frame.
    Lost(String),
}

/// The code of a close frame; fails on anything else.
#[track_caller]
pub fn closed(received: &Received) -> u16 {
    match received {
        Received::Closed(code, reason) => {
            // Every reason has these fields.
            assert!(reason["code"].is_string() && reason["reconnect"].is_boolean(), "{code}: {reason}");
            *code
        }
        other => panic!("expected a close frame: {other:?}"),
    }
}

/// A connection.
pub struct Client {
    socket: WebSocketStream<TcpStream>,
    format: Format,
    /// The data of the first frame.
    pub welcome: Value,
    /// Number of pings that the server has sent.
    pub pings: u32,
    next_id: i64,
    /// Commands that have no reply yet.
    pending: HashMap<i64, Value>,
    /// Events that were read and not returned yet.
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
    let opened = opened.expect("no answer to the upgrade");
    if let Err(Error::Http(response)) = &opened {
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let length = header("content-length").and_then(|text| text.parse().ok());
        let whole = response.body().as_deref().filter(|body| length == Some(body.len()));
        protocol::assert_answer(&protocol::Exchange {
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

/// The HTTP status of a refused upgrade.
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

    /// Connects to a target.
    pub async fn open(server: &Server, user: &User, format: Format, target: &str) -> Self {
        let opened = Self::try_open(server, user, format, target).await;
        opened.unwrap_or_else(|error| panic!("{target}: {error}\n{}", server.log_tail()))
    }

    /// Connects to a target. Fails when the server refuses the upgrade or sends no welcome.
    pub async fn try_open(server: &Server, user: &User, format: Format, target: &str) -> Result<Self, String> {
        let bearer = format!("Bearer {}", user.token);
        let headers = [("authorization", bearer.as_str()), ("sec-websocket-protocol", format.subprotocol())];
        let socket = upgrade(server, target, &headers, None).await.map_err(|error| format!("{error:?}"))?;
        Self::welcomed(socket, format).await
    }

    /// Connects with a receive buffer of this many bytes, so that the client becomes a slow reader early.
    pub async fn slow(server: &Server, user: &User, format: Format, receive_buffer: u32) -> Self {
        let bearer = format!("Bearer {}", user.token);
        let headers = [("authorization", bearer.as_str()), ("sec-websocket-protocol", format.subprotocol())];
        let socket = upgrade(server, "/ws", &headers, Some(receive_buffer)).await.unwrap();
        Self::welcomed(socket, format).await.unwrap()
    }

    /// Reads the welcome of an open socket.
    pub async fn welcomed(socket: WebSocketStream<TcpStream>, format: Format) -> Result<Self, String> {
        let (pending, events, replies) = (HashMap::new(), VecDeque::new(), HashMap::new());
        let mut client = Self { socket, format, welcome: Value::Null, pings: 0, next_id: 1, pending, events, replies };
        match client.receive().await {
            Received::Frame(first) if first["type"] == "welcome" => client.welcome = first["data"].clone(),
            other => return Err(format!("expected a welcome: {other:?}")),
        }
        Ok(client)
    }

    /// The format of the connection.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Reads the next frame, or the end of the connection.
    #[track_caller]
    pub fn receive(&mut self) -> impl Future<Output = Received> + '_ {
        let caller = std::panic::Location::caller();
        async move {
            loop {
                let Ok(next) = tokio::time::timeout(PATIENCE, self.socket.next()).await else {
                    panic!("no frame within {PATIENCE:?}, awaited at {caller}; unread events: {:?}", self.events);
                };
                match (next, self.format) {
                    (Some(Ok(Message::Text(text))), Format::Json) => {
                        let frame = serde_json::from_str(&text).expect("valid JSON");
                        return self.checked(frame);
                    }
                    (Some(Ok(Message::Binary(bytes))), Format::MessagePack) => {
                        let frame = rmp_serde::from_slice(&bytes).expect("valid MessagePack");
                        return self.checked(frame);
                    }
                    (Some(Ok(Message::Ping(_))), _) => self.pings += 1,
                    (Some(Ok(Message::Close(Some(frame)))), _) => {
                        let reason = serde_json::from_str(&frame.reason).unwrap_or(json!(frame.reason.as_str()));
                        protocol::assert_close(frame.code.into(), &reason);
                        return Received::Closed(frame.code.into(), reason);
                    }
                    (Some(Ok(Message::Close(None))), _) => return Received::Lost("close without a code".into()),
                    (Some(Err(error)), _) => return Received::Lost(error.to_string()),
                    (None, _) => return Received::Lost("end of the stream".into()),
                    (Some(Ok(other)), format) => panic!("a frame of the wrong kind for {format:?}: {other:?}"),
                }
            }
        }
    }

    /// Fails unless the documents describe the frame.
    fn checked(&mut self, frame: Value) -> Received {
        let is_ack = frame["type"] == "ack";
        let id = frame["id"].as_i64().filter(|_| is_ack || frame["type"] == "error");
        let pending = id.and_then(|id| self.pending.remove(&id));
        protocol::assert_frame(&frame, pending.as_ref().and_then(|command| command["type"].as_str()));
        if let Some(command) = pending.filter(|_| is_ack) {
            protocol::assert_command(&command);
        }
        Received::Frame(frame)
    }

    /// Sends a message as it is. Returns false when the connection has ended.
    pub async fn send_raw(&mut self, message: Message) -> bool {
        let sent = tokio::time::timeout(PATIENCE, self.socket.send(message)).await;
        sent.expect("the server does not read").is_ok()
    }

    /// Sends a command without waiting for its reply. Returns its id.
    pub async fn send(&mut self, kind: &str, data: Value) -> i64 {
        let (id, message) = self.next_command(kind, &data);
        // When the connection has ended, the next read has the reason.
        self.send_raw(message).await;
        id
    }

    fn next_command(&mut self, kind: &str, data: &Value) -> (i64, Message) {
        let id = self.next_id;
        self.next_id += 1;
        let command = json!({"type": kind, "id": id, "data": data});
        let message = self.format.message(&command);
        self.pending.insert(id, command);
        (id, message)
    }

    /// Queues a command for [`Self::flush`]. Returns its id.
    pub async fn feed(&mut self, kind: &str, data: Value) -> i64 {
        let (id, message) = self.next_command(kind, &data);
        let _ = self.socket.feed(message).await;
        id
    }

    /// Sends the queued commands.
    pub async fn flush(&mut self) {
        let _ = self.socket.flush().await;
    }

    /// Reads one frame into `replies` or `events`. Fails when the connection ends.
    async fn read_frame(&mut self) -> Result<(), Received> {
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

    /// The reply to a command. Fails when the connection ends first.
    pub async fn try_reply(&mut self, id: i64) -> Result<Result<Value, Value>, Received> {
        loop {
            if let Some(mut reply) = self.replies.remove(&id) {
                let data = reply["data"].take();
                return Ok(if reply["type"] == "ack" { Ok(data) } else { Err(data) });
            }
            self.read_frame().await?;
        }
    }

    /// The reply to a command: the data of the ack, or of the error.
    pub async fn reply(&mut self, id: i64) -> Result<Value, Value> {
        self.try_reply(id).await.unwrap_or_else(|end| panic!("the connection ended before the reply: {end:?}"))
    }

    /// Sends a command. Returns the data of the ack, or of the error.
    pub async fn command(&mut self, kind: &str, data: Value) -> Result<Value, Value> {
        let id = self.send(kind, data).await;
        self.reply(id).await
    }

    /// Sends a command that must be acknowledged. Returns the data of the ack.
    pub async fn ok(&mut self, kind: &str, data: Value) -> Value {
        let shown: String = format!("{kind} {data}").chars().take(300).collect();
        self.command(kind, data).await.unwrap_or_else(|refusal| panic!("{shown}: {refusal}"))
    }

    /// Sends a command that must be refused. Returns the error code.
    pub async fn refused(&mut self, kind: &str, data: Value) -> String {
        let shown: String = format!("{kind} {data}").chars().take(300).collect();
        match self.command(kind, data).await {
            Ok(ack) => panic!("{shown} was acknowledged: {ack}"),
            Err(refusal) => {
                assert!(refusal["message"].as_str().is_some_and(|message| !message.is_empty()), "{shown}: {refusal}");
                code(&refusal)
            }
        }
    }

    /// The next event, or reply without an id.
    pub async fn next_event(&mut self) -> Value {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            if let Err(end) = self.read_frame().await {
                panic!("the connection ended before the next event: {end:?}");
            }
        }
    }

    /// The data of the next event of this kind. Drops the events before it.
    pub async fn event(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next_event().await;
            if event["type"] == kind {
                return event["data"].clone();
            }
        }
    }

    /// The data of the next event of this kind that matches. Drops the events before it.
    pub async fn event_where(&mut self, kind: &str, matches: impl Fn(&Value) -> bool) -> Value {
        loop {
            let data = self.event(kind).await;
            if matches(&data) {
                return data;
            }
        }
    }

    /// All events that have arrived, including those that the shard sent before it answers a ping.
    pub async fn drain(&mut self) -> Vec<Value> {
        self.ok("ping", json!({})).await;
        self.events.drain(..).collect()
    }

    /// Reads until the server has sent `count` pings. Sends nothing but the pongs.
    pub async fn wait_for_pings(&mut self, count: u32) {
        let started = Instant::now();
        while self.pings < count {
            assert!(started.elapsed() < PATIENCE, "only {} of {count} pings", self.pings);
            // Nothing is lost when the read is cancelled: it stores a frame as soon as it has one.
            if let Ok(Err(end)) = tokio::time::timeout(Duration::from_millis(50), self.read_frame()).await {
                panic!("the connection ended before the next ping: {end:?}");
            }
        }
    }

    /// Reads until the connection ends. [`Self::take_events`] has the events from before.
    pub async fn end(&mut self) -> Received {
        loop {
            if let Err(end) = self.read_frame().await {
                return end;
            }
        }
    }

    /// Events that were read and not returned yet.
    pub fn take_events(&mut self) -> Vec<Value> {
        self.events.drain(..).collect()
    }

    /// Reads events until `log` has reached `seq` in a conversation. Returns the messages among them.
    pub async fn follow(&mut self, log: &mut Log, conversation: &str, seq: i64) -> Vec<Value> {
        let mut messages = Vec::new();
        while log.last(conversation) < seq {
            let event = self.next_event().await;
            log.record(&event);
            if event["type"] == "message_created" && event["data"]["conversation_id"] == conversation {
                messages.push(event["data"].clone());
            }
        }
        messages
    }

    /// Closes the connection and waits for its end.
    pub async fn close(mut self) {
        let _ = self.socket.close(None).await;
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}
