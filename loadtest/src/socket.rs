//! One WebSocket connection: opening it, and reading and writing without ever blocking one on the other.
//!
//! Invariants:
//! - [`Socket::step`] flushes *and* reads. A client that awaited its write while the server awaits that the client reads
//!   would hang both;
//! - at most [`UNFLUSHED_MAX`] frames wait in the write buffer; then [`Socket::can_queue`] says no and sends wait in the
//!   plan, which is where their latency is counted.

use crate::api::Target;
use crate::checker::ClientIndex;
use crate::wire::Format;
use futures_util::{Sink, Stream};
use std::fmt;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// Most frames in the write buffer.
const UNFLUSHED_MAX: u32 = 32;
/// Longest wait for a connection and its handshake.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections from one source address: an address has about 28,000 ports to offer.
const CONNECTIONS_PER_SOURCE: u32 = 20_000;
/// Bytes read at once. Small: 100,000 connections have one each.
const READ_BUFFER_BYTES: usize = 8 * 1024;

/// Which conversations the server is to send from the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subscribe {
    /// All of the user's.
    All,
    /// None: the client resumes from its cursors.
    None,
}

/// Why a connection could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The token is not, or no longer, good.
    Unauthorized,
    /// Anything else, in words.
    Failed(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unauthorized => f.write_str("the server does not accept the access token (401)"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

/// Opens connections to one server.
#[derive(Debug)]
pub struct Connector {
    address: SocketAddr,
    authority: String,
    format: Format,
    spread_sources: bool,
}

impl Connector {
    /// A connector for `connections` connections in all.
    pub fn new(target: &Target, format: Format, connections: u32) -> Result<Self, String> {
        let address = target.resolve()?;
        Ok(Self {
            address,
            authority: target.authority(),
            format,
            spread_sources: connections > CONNECTIONS_PER_SOURCE,
        })
    }

    /// The frames' format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The source address of a client, when it matters.
    fn source(&self, client: ClientIndex) -> Option<Ipv4Addr> {
        let spread = self.spread_sources && self.address.is_ipv4() && self.address.ip().is_loopback();
        spread.then(|| Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 0, 2)) + client.0 / CONNECTIONS_PER_SOURCE))
    }

    /// Opens a connection.
    pub async fn open(&self, client: ClientIndex, token: &str, subscribe: Subscribe) -> Result<Socket, OpenError> {
        tokio::time::timeout(OPEN_TIMEOUT, self.open_patiently(client, token, subscribe)).await.unwrap_or_else(|_| {
            let seconds = OPEN_TIMEOUT.as_secs();
            Err(OpenError::Failed(format!("ws://{}/ws: no answer within {seconds} s", self.authority)))
        })
    }

    async fn open_patiently(
        &self,
        client: ClientIndex,
        token: &str,
        subscribe: Subscribe,
    ) -> Result<Socket, OpenError> {
        let subscribe = if subscribe == Subscribe::All { "all" } else { "none" };
        let url = format!("ws://{}/ws?subscribe={subscribe}", self.authority);
        let failed = |reason: &dyn fmt::Display| OpenError::Failed(format!("{url}: {reason}"));
        let mut request = url.as_str().into_client_request().map_err(|error| failed(&error))?;
        let bearer = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|error| failed(&error))?;
        request.headers_mut().insert("authorization", bearer);
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(self.format.subprotocol()));

        let stream = self.connect(client).await.map_err(|error| failed(&explain(&error)))?;
        // A frame waits for nothing: latency is what is measured.
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
        match client_async_with_config(request, stream, Some(config)).await {
            Ok((ws, _)) => Ok(Socket { ws, unflushed: 0 }),
            Err(WsError::Http(response)) if response.status().as_u16() == 401 => Err(OpenError::Unauthorized),
            Err(WsError::Http(response)) => {
                let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                Err(failed(&format!("refused with status {} {body}", response.status())))
            }
            Err(error) => Err(failed(&error)),
        }
    }

    async fn connect(&self, client: ClientIndex) -> std::io::Result<TcpStream> {
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = self.source(client) {
            socket.bind(SocketAddr::new(IpAddr::V4(source), 0))?;
        }
        socket.connect(self.address).await
    }
}

fn explain(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        // EMFILE and EADDRNOTAVAIL on Linux.
        Some(24) => format!("{error}: raise the limit with ulimit -n"),
        Some(99) => format!("{error}: no free port, see net.ipv4.ip_local_port_range"),
        _ => error.to_string(),
    }
}

/// What a step brought.
#[derive(Debug)]
pub enum Step {
    /// A data or close frame.
    Frame(Message),
    /// The write buffer is empty again.
    Flushed,
    /// The connection is gone, in words.
    Lost(String),
}

/// An open connection.
#[derive(Debug)]
pub struct Socket {
    ws: WebSocketStream<TcpStream>,
    unflushed: u32,
}

impl Socket {
    /// True when a frame may be queued.
    pub fn can_queue(&self) -> bool {
        self.unflushed < UNFLUSHED_MAX
    }

    /// Queues a frame; the next [`step`](Self::step) writes it. The error is in words.
    pub fn queue(&mut self, message: Message) -> Result<(), String> {
        self.unflushed += 1;
        Pin::new(&mut self.ws).start_send(message).map_err(|error| error.to_string())
    }

    /// Writes what is queued and reads the next frame, whichever gets on first. Cancel-safe.
    pub async fn step(&mut self) -> Step {
        poll_fn(|cx| {
            if self.unflushed > 0 {
                match Pin::new(&mut self.ws).poll_flush(cx) {
                    Poll::Ready(Ok(())) => {
                        self.unflushed = 0;
                        return Poll::Ready(Step::Flushed);
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Step::Lost(error.to_string())),
                    Poll::Pending => {}
                }
            }
            loop {
                match Pin::new(&mut self.ws).poll_next(cx) {
                    Poll::Ready(Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)))) => {}
                    Poll::Ready(Some(Ok(message))) => return Poll::Ready(Step::Frame(message)),
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Step::Lost(error.to_string())),
                    Poll::Ready(None) => return Poll::Ready(Step::Lost("closed".to_owned())),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    /// Says goodbye and waits a moment for the other side's.
    pub async fn close(mut self) {
        let goodbye = async {
            if self.ws.close(None).await.is_ok() {
                while !matches!(self.step().await, Step::Lost(_)) {}
            }
        };
        // A server that does not answer the close is no concern of a finished run.
        let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_spread_only_on_loopback_and_beyond_one_address() {
        let source = |url: &str, connections, client| {
            let target = Target::parse(url).expect("valid");
            let connector = Connector::new(&target, Format::Json, connections).expect("resolves");
            connector.source(ClientIndex(client)).map(|address| address.to_string())
        };
        assert_eq!(source("http://127.0.0.1:1", 20_000, 5), None);
        assert_eq!(source("http://127.0.0.1:1", 20_001, 19_999).as_deref(), Some("127.0.0.2"));
        assert_eq!(source("http://127.0.0.1:1", 90_000, 20_000).as_deref(), Some("127.0.0.3"));
        assert_eq!(source("http://192.0.2.1:1", 90_000, 20_000), None);
        assert_eq!(source("http://[::1]:1", 90_000, 20_000), None);
    }
}
