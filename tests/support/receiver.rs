//! A receiver of webhooks: an HTTP server that keeps what it receives, and answers as the path of a request says.
//!
//! | path | answer |
//! |---|---|
//! | `/ok…` | 204 |
//! | `/status/500` | that status |
//! | `/flaky/2/503` | that status twice for each `webhook-id`, then 204 |
//! | `/later/7` | 429 with `Retry-After: 7` once for each `webhook-id`, then 204 |
//! | `/redirect` | 302 to `/ok/redirected` |
//! | `/hang` | none |
//! | `/answer/private` | 200 with an answer to a slash command, whose text is `Posted.` |
//! | `/switch` | the status that [`Receiver::answer_with`] has set, 204 at first |

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How long a test waits for deliveries.
const PATIENCE: Duration = Duration::from_mins(1);

/// A request that was received.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// Its path.
    pub path: String,
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`.
    pub timestamp: i64,
    /// `webhook-signature`.
    pub signature: String,
    /// The bytes of its body.
    pub body: Bytes,
}

impl Delivered {
    /// The body.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A running receiver.
pub struct Receiver {
    /// Its URL, without a path.
    pub url: String,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    received: Mutex<Vec<Delivered>>,
    attempts: Mutex<HashMap<(String, String), u32>>,
    status: AtomicU16,
}

impl Receiver {
    /// Listens on a free port of this machine.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared =
            Arc::new(Shared { received: Mutex::default(), attempts: Mutex::default(), status: AtomicU16::new(204) });
        let serving = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                while let Ok((socket, _)) = listener.accept().await {
                    let shared = Arc::clone(&shared);
                    let service = service_fn(move |request| answer(Arc::clone(&shared), request));
                    // The other end closes a connection when it likes.
                    tokio::spawn(
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service),
                    );
                }
            }
        });
        Self { url, shared, serving }
    }

    /// The address of a path.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Sets the status of `/switch`.
    pub fn answer_with(&self, status: u16) {
        self.shared.status.store(status, Ordering::Relaxed);
    }

    /// What a path has received, in the order of arrival.
    pub fn received(&self, path: &str) -> Vec<Delivered> {
        let received = self.shared.received.lock().unwrap();
        received.iter().filter(|delivered| delivered.path == path).cloned().collect()
    }

    /// What a path has received, as soon as `is_enough` accepts it.
    pub async fn received_when(&self, path: &str, is_enough: impl Fn(&[Delivered]) -> bool) -> Vec<Delivered> {
        let waiting = async {
            loop {
                let received = self.received(path);
                if is_enough(&received) {
                    return received;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.unwrap_or_else(|_| panic!("not enough at {path}: {:?}", self.received(path)))
    }

    /// What a path has received, when it is `count` or more.
    pub async fn received_many(&self, path: &str, count: usize) -> Vec<Delivered> {
        self.received_when(path, |received| received.len() >= count).await
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let field =
        |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (path, id) = (head.uri.path().to_owned(), field("webhook-id"));
    let delivered = Delivered {
        path: path.clone(),
        id: id.clone(),
        timestamp: field("webhook-timestamp").parse().unwrap_or_default(),
        signature: field("webhook-signature"),
        body: body.collect().await.map(Collected::to_bytes).unwrap_or_default(),
    };
    let attempt = {
        let mut attempts = shared.attempts.lock().unwrap();
        let attempts = attempts.entry((path.clone(), id)).or_default();
        *attempts += 1;
        *attempts
    };
    shared.received.lock().unwrap().push(delivered);
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let number = |at: usize| parts.get(at).and_then(|part| part.parse::<u16>().ok()).unwrap_or(500);
    let with = |status: u16| Response::builder().status(StatusCode::from_u16(status).unwrap());
    let response = match parts[0] {
        "status" => with(number(1)),
        "flaky" if attempt <= u32::from(number(1)) => with(number(2)),
        "later" if attempt == 1 => with(429).header("retry-after", parts[1]),
        "redirect" => with(302).header("location", "/ok/redirected"),
        "hang" => std::future::pending().await,
        "switch" => with(shared.status.load(Ordering::Relaxed)),
        "answer" => with(200),
        _ => with(204),
    };
    let body = match parts[0] {
        "answer" => json!({"visibility": parts[1], "content": "Posted."}).to_string().into(),
        _ => Bytes::new(),
    };
    Ok(response.body(Full::new(body)).unwrap())
}
