//! The receivers of the webhooks: one listener, a path for each of them. A request has its message's number as content.

use bytes::BytesMut;
use memchr::memmem;
use serde_json::Value;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Bytes of a request; the server sends less than 20 kB.
const REQUEST_MAX: usize = 64 * 1024;
const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// The messages of a phase.
#[derive(Default)]
struct Arrivals {
    /// The number of its first message.
    first: u64,
    /// When each was sent.
    sent: Vec<Option<Instant>>,
    /// Arrived deliveries, as receiver and message.
    arrived: Vec<bool>,
    latencies: Vec<Duration>,
}

impl Arrivals {
    /// A request for a message has arrived. Repeats and those of an earlier phase do not count.
    fn arrive(&mut self, receiver: usize, number: u64, at: Instant) {
        let Some(index) = number.checked_sub(self.first).map(|index| index as usize) else { return };
        let Some(Some(sent)) = self.sent.get(index) else { return };
        let Some(arrived) = self.arrived.get_mut(receiver * self.sent.len() + index) else { return };
        if !std::mem::replace(arrived, true) {
            self.latencies.push(at.saturating_duration_since(*sent));
        }
    }
}

/// All receivers. Dropping them stops the listener.
pub struct Receivers {
    url: String,
    count: u32,
    phase: Arc<Mutex<Arrivals>>,
    serving: JoinHandle<()>,
}

impl Receivers {
    /// Listens for this number of measured webhooks, and for another one.
    pub async fn start(count: u32) -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| format!("cannot listen: {error}"))?;
        let address = listener.local_addr().map_err(|error| format!("cannot listen: {error}"))?;
        let phase = Arc::new(Mutex::new(Arrivals::default()));
        let serving = tokio::spawn({
            let phase = Arc::clone(&phase);
            async move {
                while let Ok((socket, _)) = listener.accept().await {
                    tokio::spawn(serve(socket, Arc::clone(&phase)));
                }
            }
        });
        Ok(Self { url: format!("http://{address}"), count, phase, serving })
    }

    /// The address of a measured webhook.
    pub fn url(&self, n: u32) -> String {
        format!("{}/{n}", self.url)
    }

    /// The address of the other webhook.
    pub fn other(&self, hangs: bool) -> String {
        format!("{}/{}", self.url, if hangs { "hang" } else { "other" })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arrivals> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a phase of so many messages. Returns the number of the first one.
    pub fn begin(&self, messages: u32) -> u64 {
        let mut phase = self.lock();
        let first = phase.first + phase.sent.len() as u64;
        let cells = messages as usize * self.count as usize;
        *phase = Arrivals {
            first,
            sent: vec![None; messages as usize],
            arrived: vec![false; cells],
            latencies: Vec::with_capacity(cells),
        };
        first
    }

    /// Message `n` of the phase is about to be sent.
    pub fn sent(&self, n: u32, at: Instant) {
        if let Some(sent) = self.lock().sent.get_mut(n as usize) {
            *sent = Some(at);
        }
    }

    /// Deliveries of the phase that have arrived, each once.
    pub fn arrived(&self) -> u64 {
        self.lock().latencies.len() as u64
    }

    /// The latencies of the phase.
    pub fn end(&self) -> Vec<Duration> {
        std::mem::take(&mut self.lock().latencies)
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Reads one request, which ends the connection.
async fn serve(mut socket: TcpStream, phase: Arc<Mutex<Arrivals>>) {
    let mut bytes = BytesMut::new();
    let Some((path, head)) = read_head(&mut socket, &mut bytes).await else { return };
    let at = Instant::now();
    if path == "/hang" {
        pending::<()>().await;
    }
    let body: Value = serde_json::from_slice(&bytes[head..]).unwrap_or_default();
    let number = body["data"]["content"].as_str().and_then(|content| content.parse().ok());
    let receiver = path.trim_start_matches('/').parse();
    if let (Ok(receiver), Some(number)) = (receiver, number) {
        phase.lock().unwrap_or_else(PoisonError::into_inner).arrive(receiver, number, at);
    }
    // The server closes the connection as it likes.
    let _ = socket.write_all(ANSWER).await;
}

/// The path of a request and the length of its head, when all of it is in `bytes`.
async fn read_head(socket: &mut TcpStream, bytes: &mut BytesMut) -> Option<(String, usize)> {
    loop {
        if let Some(end) = memmem::find(bytes, b"\r\n\r\n") {
            let mut headers = [httparse::EMPTY_HEADER; 32];
            let mut request = httparse::Request::new(&mut headers);
            request.parse(bytes).ok()?;
            let length = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"))?;
            let length: usize = std::str::from_utf8(length.value).ok()?.parse().ok()?;
            if bytes.len() >= end + 4 + length {
                return Some((request.path?.to_owned(), end + 4));
            }
        }
        if bytes.len() > REQUEST_MAX || socket.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_delivery_of_the_phase_once() {
        let now = Instant::now();
        let mut phase =
            Arrivals { first: 10, sent: vec![Some(now); 2], arrived: vec![false; 4], latencies: Vec::new() };
        let later = now + Duration::from_millis(5);
        for (receiver, number) in [(0, 10), (0, 10), (1, 10), (1, 11), (0, 9), (0, 12), (2, 10)] {
            phase.arrive(receiver, number, later);
        }
        assert_eq!(phase.latencies, [Duration::from_millis(5); 3]);
    }
}
