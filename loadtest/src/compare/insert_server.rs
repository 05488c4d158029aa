//! The plain server that a good engineer writes in an afternoon: tokio-tungstenite, rooms in memory, and one `INSERT …
//! RETURNING` per message before it fans out and acknowledges.
//!
//! It is fast for what it does. A room's messages go over one connection to PostgreSQL, pipelined, which keeps their
//! order without waiting. There are [`DATABASE_CONNECTIONS`] of them, so commits share flushes. It encodes an event
//! once and flushes a subscriber's events together. It lacks what makes a chat server: accounts, history and resuming.
//!
//! Invariants:
//! - it fans out and acknowledges a message after its INSERT has returned, never before;
//! - queues are bounded: it disconnects a subscriber that is [`QUEUE_MAX`] events behind, and does not read from a
//!   client with [`IN_FLIGHT_MAX`] unfinished messages.

use super::postgres::{connect, describe};
use futures_util::stream::FuturesOrdered;
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_postgres::{Client, Statement};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Its table.
pub const SCHEMA: &str = "
    CREATE TABLE messages (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        room text NOT NULL,
        token text NOT NULL,
        payload text NOT NULL,
        sent_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX messages_room ON messages (room, id);
";
const INSERT: &str = "INSERT INTO messages (room, token, payload) VALUES ($1, $2, $3) RETURNING id";
/// Connections to PostgreSQL.
const DATABASE_CONNECTIONS: usize = 32;
/// Longest queue of one subscriber, events.
const QUEUE_MAX: usize = 65_536;
/// Messages of one client in flight to PostgreSQL.
const IN_FLIGHT_MAX: usize = 256;

/// Command line of the server.
#[derive(clap::Args, Debug, Clone)]
pub struct Options {
    /// Where to listen
    #[arg(long)]
    pub listen: SocketAddr,
    /// Where PostgreSQL is
    #[arg(long)]
    pub database: String,
    /// Threads
    #[arg(long, default_value_t = 1)]
    pub workers: u32,
}

#[derive(Deserialize)]
#[serde(tag = "t", rename_all = "lowercase")]
enum Request {
    Join { rooms: Vec<String> },
    Publish(Publication),
}

#[derive(Deserialize)]
struct Publication {
    room: String,
    token: String,
    payload: String,
}

#[derive(Serialize)]
struct InsertedEvent<'a> {
    t: &'static str,
    room: &'a str,
    token: &'a str,
    payload: &'a str,
    id: i64,
}

type Queue = mpsc::Sender<Utf8Bytes>;

struct InsertServer {
    stores: Vec<(Client, Statement)>,
    hasher: BuildHasherDefault<DefaultHasher>,
    rooms: Mutex<HashMap<String, Vec<Queue>>>,
}

/// Serves until it is stopped.
///
/// # Errors
/// When it cannot listen, or PostgreSQL cannot be reached.
pub fn serve(options: &Options) -> Result<(), String> {
    let mut builder = match options.workers {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(options.workers.max(1) as usize).enable_all().build();
    runtime.map_err(|error| format!("cannot start the runtime: {error}"))?.block_on(listen(options))
}

async fn listen(options: &Options) -> Result<(), String> {
    let mut stores = Vec::with_capacity(DATABASE_CONNECTIONS);
    for _ in 0..DATABASE_CONNECTIONS {
        let client = connect(&options.database).await?;
        let statement = client.prepare(INSERT).await.map_err(|error| describe(&error))?;
        stores.push((client, statement));
    }
    let server = Arc::new(InsertServer { stores, hasher: BuildHasherDefault::default(), rooms: Mutex::default() });
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", options.listen))?;
    loop {
        let (stream, _) = listener.accept().await.map_err(|error| format!("cannot accept: {error}"))?;
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            // A client's fault ends its connection, which the harness reports as a lost connection.
            let _ = connection(&server, stream).await;
        });
    }
}

async fn connection(server: &Arc<InsertServer>, stream: TcpStream) -> Result<(), String> {
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let socket = tokio_tungstenite::accept_async(stream).await.map_err(|error| error.to_string())?;
    let (mut sink, mut source) = socket.split();
    let (queue, mut events) = mpsc::channel::<Utf8Bytes>(QUEUE_MAX);
    let writer = tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            let mut next = Some(event);
            while let Some(event) = next {
                if sink.feed(Message::Text(event)).await.is_err() {
                    return;
                }
                next = events.try_recv().ok();
            }
            if sink.flush().await.is_err() {
                return;
            }
        }
    });
    let mut under_way = FuturesOrdered::new();
    let outcome = loop {
        tokio::select! {
            Some(stored) = under_way.next() => {
                let (publication, id): (Publication, i64) = match stored {
                    Ok(stored) => stored,
                    Err(error) => break Err(error),
                };
                server.fan_out(&publication, id);
                let ack = serde_json::json!({ "t": "ack", "token": publication.token }).to_string();
                if queue.send(ack.into()).await.is_err() {
                    break Ok(());
                }
            }
            message = source.next(), if under_way.len() < IN_FLIGHT_MAX => match message {
                Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                    Ok(Request::Publish(publication)) => {
                        let server = Arc::clone(server);
                        under_way.push_back(async move {
                            let id = server.store(&publication).await?;
                            Ok((publication, id))
                        });
                    }
                    Ok(Request::Join { rooms }) => {
                        server.join(&rooms, &queue);
                        if queue.send(r#"{"t":"joined"}"#.into()).await.is_err() {
                            break Ok(());
                        }
                    }
                    Err(error) => break Err(format!("not a request: {error}")),
                },
                Some(Ok(Message::Close(_)) | Err(_)) | None => break Ok(()),
                Some(Ok(_)) => {}
            }
        }
    };
    writer.abort();
    outcome
}

impl InsertServer {
    fn join(&self, rooms: &[String], queue: &Queue) {
        let mut subscribers = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        for room in rooms {
            subscribers.entry(room.clone()).or_default().push(queue.clone());
        }
    }

    async fn store(&self, publication: &Publication) -> Result<i64, String> {
        let index = self.hasher.hash_one(&publication.room) as usize % self.stores.len();
        let (client, statement) = &self.stores[index];
        let row = client
            .query_one(statement, &[&publication.room, &publication.token, &publication.payload])
            .await
            .map_err(|error| describe(&error))?;
        row.try_get(0).map_err(|error| describe(&error))
    }

    fn fan_out(&self, publication: &Publication, id: i64) {
        let Publication { room, token, payload } = publication;
        // Strings and a number cannot fail to become JSON.
        let Ok(event) = serde_json::to_string(&InsertedEvent { t: "message", room, token, payload, id }) else {
            return;
        };
        let event = Utf8Bytes::from(event);
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(subscribers) = rooms.get_mut(room) {
            // Removes subscribers that have closed or are too far behind.
            subscribers.retain(|queue| queue.try_send(event.clone()).is_ok());
        }
    }
}
