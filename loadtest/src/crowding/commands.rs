//! Floods over WebSockets: a few accounts that keep as many commands in flight as a connection may have, whatever the
//! answers are. A socket that the server closes is opened again.

use super::counts::{Counts, LOOK};
use crate::client::Socket;
use crate::setup::account::Account;
use crate::setup::api::Target;
use serde_json::{Value, json};
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

/// A kind of command that floods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommandFlood {
    Search,
    ListConversations,
    GetThread,
    ListMembers,
    MarkRead,
    Resume,
    Ping,
    Unknown,
    Typing,
    BadFrames,
}

impl CommandFlood {
    pub(super) const ALL: [Self; 10] = [
        Self::Search,
        Self::ListConversations,
        Self::GetThread,
        Self::ListMembers,
        Self::MarkRead,
        Self::Resume,
        Self::Ping,
        Self::Unknown,
        Self::Typing,
        Self::BadFrames,
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
            Self::Typing => "typing",
            Self::BadFrames => "bad_frames",
        }
    }

    fn data(self, den: &Den) -> Value {
        match self {
            Self::Search => json!({ "query": "\"a-a-a-a-a-a-a-a\"", "limit": 20 }),
            Self::ListConversations => json!({ "limit": 200 }),
            Self::GetThread => json!({ "message_id": den.thread, "limit": 200 }),
            Self::ListMembers => json!({ "conversation_id": den.room, "limit": 200 }),
            // In the room of the ordinary users, because its lock is theirs.
            Self::MarkRead => json!({ "conversation_id": den.ordinary, "seq": 1 }),
            Self::Typing => json!({ "conversation_id": den.ordinary }),
            Self::Resume => {
                // Its own room, and as many as fit that it is not in.
                let others = (0..CURSORS as i64 - 1).map(|n| (format!("room_{}", 1_000_001 + 4 * n), json!(0)));
                let cursors: serde_json::Map<String, Value> = others.chain([(den.room.clone(), json!(0))]).collect();
                json!({ "cursors": cursors })
            }
            Self::Ping | Self::Unknown | Self::BadFrames => json!({}),
        }
    }

    /// The frame of a kind that the server does not acknowledge.
    fn unanswered(self, data: &Value) -> Option<String> {
        match self {
            Self::Typing => Some(json!({ "type": "typing", "data": data }).to_string()),
            Self::BadFrames => Some("{\"type\":".to_owned()),
            _ => None,
        }
    }
}

/// The flooders' own room: long messages that are expensive to search, and a thread. They are also members of the
/// ordinary users' room.
pub(super) struct Den {
    room: String,
    ordinary: String,
    thread: Value,
}

impl Den {
    pub(super) async fn fill(
        target: &Target,
        flooders: &[Account],
        room: &str,
        ordinary: &str,
    ) -> Result<Self, String> {
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
        Ok(Self { room: room.to_owned(), ordinary: ordinary.to_owned(), thread })
    }
}

/// Floods until it is over.
pub(super) async fn flood(target: &Target, flooders: &[Account], den: &Den, kind: CommandFlood, counts: &Counts) {
    let data = kind.data(den);
    let sockets = flooders.iter().flat_map(|account| std::iter::repeat_n(account, SOCKETS));
    let flooding = sockets.map(async |account| {
        // Opens its socket again whenever it is closed.
        while let Err(reason) = flood_once(target, &account.token, kind, &data, counts).await {
            counts.lost(reason);
            if counts.is_over() {
                break;
            }
            tokio::time::sleep(REOPEN).await;
        }
    });
    futures_util::future::join_all(flooding).await;
}

async fn flood_once(
    target: &Target,
    token: &str,
    kind: CommandFlood,
    data: &Value,
    counts: &Counts,
) -> Result<(), String> {
    let mut socket = Socket::open(target, token).await?;
    match kind.unanswered(data) {
        Some(frame) => flood_unanswered(&mut socket, &frame, counts).await?,
        None => flood_answered(&mut socket, kind.name(), data, counts).await?,
    }
    socket.close().await;
    Ok(())
}

async fn flood_answered(socket: &mut Socket, command: &str, data: &Value, counts: &Counts) -> Result<(), String> {
    let mut in_flight = 0;
    while !counts.is_over() {
        while in_flight < IN_FLIGHT {
            socket.send(command, data).await?;
            in_flight += 1;
        }
        let reply = socket.next(|frame| (frame.id.is_some()).then_some(frame.kind == "ack"));
        match tokio::time::timeout(LOOK, reply).await {
            Err(_) => continue,
            Ok(Ok(true)) => counts.answered(1),
            Ok(Ok(false)) => counts.refused(1),
            Ok(Err(reason)) => return Err(reason),
        }
        in_flight -= 1;
    }
    Ok(())
}

/// Frames that have no ack: a `ping` after each run of them shows that the server has read them. What has no error was
/// answered.
async fn flood_unanswered(socket: &mut Socket, frame: &str, counts: &Counts) -> Result<(), String> {
    while !counts.is_over() {
        for _ in 1..IN_FLIGHT {
            socket.send_text(frame.to_owned()).await?;
        }
        let fence = socket.send("ping", &json!({})).await?;
        let mut refused = 0;
        loop {
            let next = socket.next(|frame| match (frame.id, frame.kind) {
                (Some(id), _) if id == fence => Some(true),
                (None, "error") => Some(false),
                _ => None,
            });
            match tokio::time::timeout(LOOK, next).await {
                Err(_) if counts.is_over() => return Ok(()),
                Err(_) => {}
                Ok(Ok(true)) => break,
                Ok(Ok(false)) => refused += 1,
                Ok(Err(reason)) => return Err(reason),
            }
        }
        counts.refused(refused);
        counts.answered((IN_FLIGHT as u64 - 1).saturating_sub(refused));
    }
    Ok(())
}
