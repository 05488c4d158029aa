//! Serves the HTTP/1.1 connections that the shards hand over, with keep-alive.
//!
//! A shard has read the head of the first request to see that it is not a WebSocket. Those bytes come with the
//! connection and are read again here ([`Rewind`]).
//!
//! Invariants:
//! - at most `connections_max` connections at once, because each costs a task and buffers. Beyond it, a few more get
//!   one answer each, and only to a health check: a full server is alive. All others get 503. The same holds for the
//!   connections of one network beyond its part ([`Clients`]);
//! - a head must be complete [`limits::REQUEST_HEAD_TIMEOUT_MS`] after the previous response. One timer covers slow
//!   heads and idle connections; otherwise idle clients would occupy all slots. (Node.js and Apache also close idle
//!   connections after five seconds.)
//! - a head is at most [`limits::REQUEST_HEAD_BYTES_MAX`] and [`limits::REQUEST_HEADERS_MAX`] fields, as on the shards;
//! - the server closes a client that does not read its response for [`WRITE_STALL`].
//!
//! A WebSocket upgrade must be the first request of a connection, because only a shard can serve a WebSocket. A later
//! upgrade is refused with this reason.

use super::clients::{Clients, NetworkPlace};
use super::extract::PeerAddress;
use crate::address::TrustedProxies;
use crate::limits;
use crate::wire::response_fields::response_fields;
use crate::wire::ws::head::is_host;
use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{Version, header},
};
use bytes::{Buf, Bytes};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::Future;
use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Sleep;
use tower::ServiceExt;

/// The answer of a server without room, for connections that no task serves.
fn busy() -> Vec<u8> {
    let body = "{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\
                \"Too many HTTP connections are open. Try again in a moment.\",\"code\":\"overloaded\",\
                \"retry_after_ms\":1000}";
    let fields = response_fields();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
         connection: close\r\n{fields}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn head_timeout() -> Vec<u8> {
    let fields = response_fields();
    format!("HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n{fields}content-length: 0\r\n\r\n").into_bytes()
}

/// Pause after a connection could not be accepted, as when no descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a response may wait for its client to read.
const WRITE_STALL: Duration = Duration::from_secs(30);

/// The index of a request on its connection, from 0.
#[derive(Clone, Copy, Debug)]
struct RequestIndex(u32);

/// Notifies an endless response that the server shuts down.
#[derive(Clone, Debug)]
pub(super) struct StopSignal(watch::Receiver<StopPhase>);

impl StopSignal {
    /// Waits until the shutdown begins.
    pub(super) async fn begun(&mut self) {
        // An error means that the server has stopped already.
        let _ = self.0.wait_for(|phase| *phase != StopPhase::Serving).await;
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum StopPhase {
    Serving,
    /// Connections end after their current request.
    Draining,
    /// Connections end now.
    Stopped,
}

/// The HTTP server; cloning shares it.
#[derive(Clone)]
pub struct HttpServer {
    inner: Arc<HttpServerInner>,
}

struct HttpServerInner {
    router: Router,
    health_router: Router,
    runtime: Handle,
    slots: Arc<Semaphore>,
    health_slots: Arc<Semaphore>,
    clients: Clients,
    connections_max: u32,
    phase: watch::Sender<StopPhase>,
}

impl std::fmt::Debug for HttpServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpServer").field("connections", &self.connections()).finish_non_exhaustive()
    }
}

impl HttpServer {
    /// Serves at most `connections_max` connections with `router` on `runtime`, and
    /// [`limits::HEALTH_CONNECTIONS_MAX`] more with `health_router`, one request each. `proxies` may name the address
    /// of a client.
    #[must_use]
    pub fn new(
        router: Router,
        health_router: Router,
        runtime: Handle,
        connections_max: usize,
        proxies: TrustedProxies,
    ) -> Self {
        let connections_max = connections_max.min(limits::HTTP_CONNECTIONS_MAX) as u32;
        let slots = Arc::new(Semaphore::new(connections_max as usize));
        let health_slots = Arc::new(Semaphore::new(limits::HEALTH_CONNECTIONS_MAX));
        let phase = watch::Sender::new(StopPhase::Serving);
        Self {
            inner: Arc::new(HttpServerInner {
                router,
                health_router,
                runtime,
                slots,
                health_slots,
                clients: Clients::new(connections_max as usize, proxies),
                connections_max,
                phase,
            }),
        }
    }

    /// Connections being served.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.inner.connections_max as usize - self.inner.slots.available_permits()
    }

    /// Serves a connection of which `already_read` has been read. Does not block; any thread may call it.
    pub fn adopt(&self, stream: std::net::TcpStream, already_read: Vec<u8>, peer: SocketAddr) {
        if let Err(error) = stream.set_nonblocking(true) {
            tracing::debug!(%error, "a connection was lost before it could be served");
            return;
        }
        let serving = *self.inner.phase.borrow() == StopPhase::Serving;
        let admitted = self.admit(peer).or_else(|| {
            let slot = Arc::clone(&self.inner.health_slots).try_acquire_owned().ok()?;
            Some(Admitted { health_only: true, _slot: slot, _place: None })
        });
        let Some(admitted) = admitted.filter(|_| serving) else {
            // The send buffer of the socket is empty, so one write sends it all, or the client receives nothing.
            let _ = (&stream).write(&busy());
            let _ = stream.shutdown(Shutdown::Write);
            return;
        };
        // So that a thread without a runtime can register the socket.
        let _guard = self.inner.runtime.enter();
        match TcpStream::from_std(stream) {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                let stream = Rewind::new(already_read, stream);
                let router = if admitted.health_only { &self.inner.health_router } else { &self.inner.router };
                let clients = self.inner.clients.clone();
                let served = Served { router: router.clone(), peer, clients, admitted };
                self.inner.runtime.spawn(serve(served, stream, self.inner.phase.subscribe()));
            }
            Err(error) => crate::faults::warn_limited!(%error, "a connection could not be served"),
        }
    }

    /// Accepts connections of `listener` too.
    ///
    /// # Errors
    /// The system's error when the listener cannot be used.
    pub fn listen(&self, listener: std::net::TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let _guard = self.inner.runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        let server = self.clone();
        self.inner.runtime.spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        if let Ok(stream) = stream.into_std() {
                            server.adopt(stream, Vec::new(), peer);
                        }
                    }
                    Err(error) => {
                        crate::faults::warn_limited!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        });
        Ok(())
    }

    /// A slot for a connection, and the place among those of its network.
    fn admit(&self, peer: SocketAddr) -> Option<Admitted> {
        let place = self.inner.clients.admit_connection(peer.ip()).ok()?;
        let slot = Arc::clone(&self.inner.slots).try_acquire_owned().ok()?;
        Some(Admitted { health_only: false, _slot: slot, _place: place })
    }

    /// Refuses new connections, lets current requests end, and closes the rest after `grace`. Returns whether all ended
    /// in time.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.inner.phase.send_replace(StopPhase::Draining);
        let all = self.inner.slots.acquire_many(self.inner.connections_max);
        let ended = tokio::time::timeout(grace, all).await.is_ok();
        self.inner.phase.send_replace(StopPhase::Stopped);
        ended
    }
}

/// Whether `request` asks for a WebSocket on a connection that has already served another request.
pub(super) fn is_late_upgrade(request: &Request) -> bool {
    let late = request.extensions().get::<RequestIndex>().is_some_and(|index| index.0 > 0);
    late && request
        .headers()
        .get_all(header::UPGRADE)
        .iter()
        .any(|value| value.as_bytes().to_ascii_lowercase().starts_with(b"websocket"))
}

/// A connection to be served.
struct Served {
    router: Router,
    peer: SocketAddr,
    clients: Clients,
    admitted: Admitted,
}

/// What a connection occupies until it ends.
struct Admitted {
    /// It may ask for health only, once.
    health_only: bool,
    _slot: OwnedSemaphorePermit,
    _place: Option<NetworkPlace>,
}

/// The address of the client that sent `request` over a connection of `peer`.
fn client_address(proxies: &TrustedProxies, peer: SocketAddr, request: &Request) -> PeerAddress {
    let fields = request.headers().get_all(proxies.header().name()).iter();
    let client = proxies.client(peer.ip(), fields.map(|value| value.to_str().unwrap_or_default()));
    PeerAddress(if client == peer.ip().to_canonical() { peer } else { SocketAddr::new(client, 0) })
}

/// Whether `request` has the `Host` field that its version of HTTP asks for (RFC 9112 §3.2).
pub(super) fn names_one_host(request: &Request) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => is_host(host.as_bytes()),
        (None, _) => request.version() < Version::HTTP_11,
        (Some(_), Some(_)) => false,
    }
}

async fn serve(connection: Served, stream: Rewind<TcpStream>, mut phase: watch::Receiver<StopPhase>) {
    let Served { router, peer, clients, admitted } = connection;
    let served = AtomicU32::new(0);
    let ending = StopSignal(phase.clone());
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        let client = client_address(clients.proxies(), peer, &request);
        request.extensions_mut().insert(client);
        request.extensions_mut().insert(clients.clone());
        request.extensions_mut().insert(ending.clone());
        request.extensions_mut().insert(RequestIndex(served.fetch_add(1, Ordering::Relaxed)));
        router.clone().oneshot(request)
    });
    let mut connection = http1::Builder::new()
        .keep_alive(!admitted.health_only)
        .half_close(true) // a client may close its sending half after its request (RFC 9112 section 9.6)
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits::REQUEST_HEAD_TIMEOUT_MS))
        .max_headers(limits::REQUEST_HEADERS_MAX)
        .max_header_size(limits::REQUEST_HEAD_BYTES_MAX)
        .max_buf_size(limits::REQUEST_HEAD_BYTES_MAX * 2)
        .serve_connection(TokioIo::new(stream), service);
    let ended = loop {
        tokio::select! {
            // The connection is polled first. A request that has arrived is then under way when the shutdown begins.
            biased;
            ended = &mut connection => break ended,
            _ = phase.changed() => match *phase.borrow_and_update() {
                StopPhase::Serving => {}
                StopPhase::Draining => Pin::new(&mut connection).graceful_shutdown(),
                StopPhase::Stopped => return,
            },
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "an HTTP connection ended");
        let mut stream = connection.into_parts().io.into_inner();
        // A client that has begun a head receives 408; an idle connection is closed silently.
        if error.is_timeout() && stream.received {
            let timeout_response = async {
                stream.write_all(&head_timeout()).await?;
                stream.shutdown().await
            };
            let _ = tokio::time::timeout(Duration::from_secs(1), timeout_response).await;
        }
    }
}

/// A stream that returns bytes first that were read before. Writing fails when it stalls.
struct Rewind<S> {
    already_read: Bytes,
    /// Whether bytes have arrived since the last write.
    received: bool,
    stalled: Option<Pin<Box<Sleep>>>,
    stream: S,
}

impl<S> Rewind<S> {
    fn new(already_read: Vec<u8>, stream: S) -> Self {
        Self { already_read: already_read.into(), received: false, stalled: None, stream }
    }

    /// Passes `polled` on, unless writing has been pending for [`WRITE_STALL`].
    fn watch<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let sleep = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_STALL)));
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewind<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.already_read.has_remaining() {
            let n = self.already_read.len().min(buf.remaining());
            buf.put_slice(&self.already_read.split_to(n));
            self.received |= n > 0;
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.received |= buf.filled().len() > before;
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewind<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.received = false;
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.received = false;
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;
    use axum::routing::{get, post};
    use tokio::io::AsyncReadExt;

    fn router() -> Router {
        Router::new()
            .route("/", get(|peer: PeerAddress| async move { peer.ip() }))
            .route("/echo", post(|body: String| async move { body }))
            .route("/slow", get(|| async { tokio::time::sleep(Duration::from_millis(100)).await }))
    }

    fn server(connections_max: usize) -> HttpServer {
        let health_router = Router::new()
            .route("/health", get(|| async { "well" }))
            .fallback(|| async { StatusCode::SERVICE_UNAVAILABLE });
        HttpServer::new(router(), health_router, Handle::current(), connections_max, TrustedProxies::default())
    }

    /// A client and the server's end of its connection.
    async fn pair() -> (TcpStream, std::net::TcpStream, SocketAddr) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, peer) = listener.accept().await.unwrap();
        (client, server.into_std().unwrap(), peer)
    }

    async fn read_to_end(client: &mut TcpStream) -> String {
        let mut text = String::new();
        tokio::time::timeout(Duration::from_secs(9), client.read_to_string(&mut text)).await.unwrap().unwrap();
        text
    }

    #[tokio::test]
    async fn serves_what_the_shard_has_read_at_every_split() {
        let request = b"POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello";
        let server = server(100);
        for at in 0..=request.len() {
            let (mut client, socket, peer) = pair().await;
            server.adopt(socket, request[..at].to_vec(), peer);
            client.write_all(&request[at..]).await.unwrap();
            let answer = read_to_end(&mut client).await;
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hello"), "{at}: {answer}");
        }
    }

    #[tokio::test]
    async fn answers_only_health_checks_when_full_and_refuses_beyond_the_reserve() {
        let server = server(1);
        let (_first, socket, peer) = pair().await;
        server.adopt(socket, Vec::new(), peer);
        for (path, status) in [("/health", "200"), ("/", "503")] {
            let (mut client, socket, peer) = pair().await;
            server.adopt(socket, format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").into_bytes(), peer);
            let answer = read_to_end(&mut client).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        }
        let mut reserve = Vec::new();
        while server.inner.health_slots.available_permits() > 0 {
            let (client, socket, peer) = pair().await;
            server.adopt(socket, Vec::new(), peer);
            reserve.push(client);
        }
        let (mut late, socket, peer) = pair().await;
        server.adopt(socket, b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), peer);
        let answer = read_to_end(&mut late).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["code"], "overloaded");
    }

    #[tokio::test]
    async fn answers_only_health_checks_of_a_network_with_its_part_of_the_connections() {
        let server = server(100);
        let from = |address: &str| SocketAddr::new(address.parse().unwrap(), 1);
        let mut open = Vec::new();
        for _ in 0..limits::HTTP_CONNECTIONS_PER_NETWORK_MIN {
            let (client, socket, _) = pair().await;
            server.adopt(socket, Vec::new(), from("192.0.2.1"));
            open.push(client);
        }
        for (address, path, status) in
            [("192.0.2.1", "/", "503"), ("192.0.2.1", "/health", "200"), ("192.0.2.2", "/", "200")]
        {
            let (mut client, socket, _) = pair().await;
            let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
            server.adopt(socket, request.into_bytes(), from(address));
            let answer = read_to_end(&mut client).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{address} {path}: {answer}");
        }
    }

    #[tokio::test]
    async fn answers_a_client_that_has_closed_its_sending_half() {
        let server = server(100);
        for path in ["/", "/slow"] {
            let (mut client, socket, peer) = pair().await;
            client.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
            client.shutdown().await.unwrap();
            server.adopt(socket, Vec::new(), peer);
            let answer = read_to_end(&mut client).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        }
    }

    #[tokio::test]
    async fn shutdown_lets_requests_end_and_closes_idle_connections() {
        let server = server(100);
        let (mut idle, socket, peer) = pair().await;
        server.adopt(socket, Vec::new(), peer);
        let (mut busy, socket, peer) = pair().await;
        server.adopt(socket, b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), peer);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(server.connections(), 2);
        assert!(server.shutdown(Duration::from_secs(5)).await);
        assert_eq!(read_to_end(&mut idle).await, "");
        assert!(read_to_end(&mut busy).await.starts_with("HTTP/1.1 200 "));
        let (mut late, socket, peer) = pair().await;
        server.adopt(socket, Vec::new(), peer);
        assert!(read_to_end(&mut late).await.starts_with("HTTP/1.1 503 "));
    }

    #[tokio::test]
    async fn shutdown_closes_endless_requests_after_the_grace() {
        let router = Router::new().route("/", get(std::future::pending::<()>));
        let server = HttpServer::new(router, Router::new(), Handle::current(), 100, TrustedProxies::default());
        let (mut client, socket, peer) = pair().await;
        server.adopt(socket, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), peer);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!server.shutdown(Duration::from_millis(20)).await);
        assert_eq!(read_to_end(&mut client).await, "");
    }

    #[tokio::test]
    async fn half_a_head_receives_408_and_idle_connections_nothing() {
        let server = server(100);
        let (mut half, socket, peer) = pair().await;
        server.adopt(socket, b"GET / HTTP/1.1\r\nho".to_vec(), peer);
        let (mut silent, socket, peer) = pair().await;
        server.adopt(socket, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), peer);
        let (half, silent) = tokio::join!(read_to_end(&mut half), read_to_end(&mut silent));
        assert!(half.starts_with("HTTP/1.1 408 "), "{half}");
        assert!(silent.starts_with("HTTP/1.1 200 ") && silent.ends_with("127.0.0.1"), "{silent}");
    }

    #[tokio::test]
    async fn a_head_that_is_too_large_receives_431() {
        let server = server(100);
        for head in [
            format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(limits::REQUEST_HEAD_BYTES_MAX)),
            format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(limits::REQUEST_HEADERS_MAX + 1)),
        ] {
            let (mut client, socket, peer) = pair().await;
            server.adopt(socket, Vec::new(), peer);
            client.write_all(head.as_bytes()).await.unwrap();
            let answer = read_to_end(&mut client).await;
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        }
    }
}
