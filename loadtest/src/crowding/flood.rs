//! The flood: a few accounts that keep as many commands in flight as a connection may have, whatever the answers are. A
//! socket that the server closes is opened again.

use crate::client::Socket;
use crate::setup::account::Account;
use crate::setup::api::Target;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Sockets of each account.
const SOCKETS: usize = 5;
/// Commands in flight on each.
const IN_FLIGHT: usize = chat_server::limits::COMMANDS_IN_FLIGHT_PER_CONNECTION_MAX as usize;
/// Messages of each account in their room: fewer than a user may send at once.
const MESSAGES: usize = 40;
/// Before a socket that was closed is opened again.
const REOPEN: Duration = Duration::from_millis(50);
/// Cursors in a `resume`.
const CURSORS: usize = 1_000;
/// How often a socket looks whether the flood is over, while no answer comes.
const LOOK: Duration = Duration::from_millis(100);

/// What floods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Search,
    ListConversations,
    GetThread,
    ListMembers,
    MarkRead,
    Resume,
    Ping,
    Unknown,
}

impl Kind {
    pub(super) const ALL: [Self; 8] = [
        Self::Search,
        Self::ListConversations,
        Self::GetThread,
        Self::ListMembers,
        Self::MarkRead,
        Self::Resume,
        Self::Ping,
        Self::Unknown,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Search => "search_messages",
            Self::ListConversations => "list_conversations",
            Self::GetThread => "get_thread",
            Self::ListMembers => "list_members",
            Self::MarkRead => "mark_read",
            Self::Resume => "resume",
            Self::Ping => "ping",
            Self::Unknown => "no_such_command",
        }
    }

    fn data(self, den: &Den) -> Value {
        match self {
            Self::Search => json!({ "query": "\"a-a-a-a-a-a-a-a\"", "limit": 20 }),
            Self::ListConversations => json!({ "limit": 200 }),
            Self::GetThread => json!({ "message_id": den.thread, "limit": 200 }),
            Self::ListMembers => json!({ "conversation_id": den.room, "limit": 200 }),
            Self::MarkRead => json!({ "conversation_id": den.room, "seq": 1 }),
            Self::Resume => {
                // Its own room, and as many as fit that it is not in.
                let others = (0..CURSORS as i64 - 1).map(|n| (format!("room_{}", 1_000_001 + 4 * n), json!(0)));
                let cursors: serde_json::Map<String, Value> = others.chain([(den.room.clone(), json!(0))]).collect();
                json!({ "cursors": cursors })
            }
            Self::Ping | Self::Unknown => json!({}),
        }
    }
}

/// The flooders' own room: long messages that are expensive to search, and a thread.
pub(super) struct Den {
    room: String,
    thread: Value,
}

impl Den {
    pub(super) async fn fill(target: &Target, flooders: &[Account], room: &str) -> Result<Self, String> {
        let long = "a-".repeat(1_990);
        let mut thread = Value::Null;
        for (n, account) in flooders.iter().enumerate() {
            let mut socket = Socket::open(target, &account.token).await?;
            for _ in 0..MESSAGES {
                // The first account writes what is expensive to search, the others reply to its first message.
                let (content, parent) = if n == 0 { (long.as_str(), Value::Null) } else { ("yes", thread.clone()) };
                let mut message = json!({ "conversation_id": room, "content": content });
                if !parent.is_null() {
                    message["parent_message_id"] = parent;
                }
                let sent = socket.ask("send_message", &message).await?.outcome?;
                if thread.is_null() {
                    let sent: Value = serde_json::from_str(sent.get()).map_err(|error| error.to_string())?;
                    thread = sent["message_id"].clone();
                }
            }
            socket.close().await;
        }
        Ok(Self { room: room.to_owned(), thread })
    }
}

/// What a flood asked and got.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) answered: u64,
    pub(super) refused: u64,
    /// Its sockets that ended before it did, and why one of them did.
    pub(super) lost: u64,
    pub(super) why: Option<String>,
}

#[derive(Default)]
struct Counts {
    over: AtomicBool,
    answered: AtomicU64,
    refused: AtomicU64,
}

/// A flood that is under way.
pub(super) struct Flood {
    counts: Arc<Counts>,
    thread: JoinHandle<Result<Ended, String>>,
}

impl Flood {
    pub(super) fn start(target: &Target, flooders: &[Account], den: &Den, kind: Kind) -> Self {
        let counts = Arc::new(Counts::default());
        let (target, data) = (target.clone(), kind.data(den));
        let tokens: Vec<String> = flooders.iter().map(|account| account.token.clone()).collect();
        let thread = std::thread::spawn({
            let counts = Arc::clone(&counts);
            move || run(&target, &tokens, kind.name(), &data, &counts)
        });
        Self { counts, thread }
    }

    pub(super) fn stop(self) -> Result<Asked, String> {
        self.counts.over.store(true, Ordering::Relaxed);
        let lost = self.thread.join().map_err(|_| "the flood panicked".to_owned())??;
        Ok(Asked {
            answered: self.counts.answered.load(Ordering::Relaxed),
            refused: self.counts.refused.load(Ordering::Relaxed),
            lost: lost.closed,
            why: lost.why,
        })
    }
}

/// Sockets that the server closed, and why one of them.
#[derive(Default)]
struct Ended {
    closed: u64,
    why: Option<String>,
}

/// Floods until it is over.
fn run(
    target: &Target,
    tokens: &[String],
    command: &'static str,
    data: &Value,
    counts: &Counts,
) -> Result<Ended, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start the flood's runtime: {error}"))?;
    let sockets = tokens.iter().flat_map(|token| std::iter::repeat_n(token, SOCKETS));
    let flooding = sockets.map(|token| flood_again(target, token, command, data, counts));
    let ended = runtime.block_on(futures_util::future::join_all(flooding));
    Ok(ended
        .into_iter()
        .fold(Ended::default(), |all, one| Ended { closed: all.closed + one.closed, why: all.why.or(one.why) }))
}

/// Opens its socket again whenever it is closed.
async fn flood_again(target: &Target, token: &str, command: &str, data: &Value, counts: &Counts) -> Ended {
    let mut ended = Ended::default();
    while let Err(reason) = flood(target, token, command, data, counts).await {
        ended.closed += 1;
        ended.why.get_or_insert(reason);
        if counts.over.load(Ordering::Relaxed) {
            break;
        }
        tokio::time::sleep(REOPEN).await;
    }
    ended
}

async fn flood(target: &Target, token: &str, command: &str, data: &Value, counts: &Counts) -> Result<(), String> {
    let mut socket = Socket::open(target, token).await?;
    let mut in_flight = 0;
    while !counts.over.load(Ordering::Relaxed) {
        while in_flight < IN_FLIGHT {
            socket.send(command, data).await?;
            in_flight += 1;
        }
        let reply = socket.next(|frame| (frame.id.is_some()).then_some(frame.kind == "ack"));
        match tokio::time::timeout(LOOK, reply).await {
            Err(_) => continue,
            Ok(Ok(true)) => counts.answered.fetch_add(1, Ordering::Relaxed),
            Ok(Ok(false)) => counts.refused.fetch_add(1, Ordering::Relaxed),
            Ok(Err(reason)) => return Err(reason),
        };
        in_flight -= 1;
    }
    socket.close().await;
    Ok(())
}
