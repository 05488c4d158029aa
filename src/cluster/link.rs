//! The connection to Redis that receives, and the life of both connections.
//!
//! ```text
//!   down ──connected──► subscribing ──every channel, heads compared──► standing
//!    ▲                       │                                            │
//!    └──── pause, doubling ◄─┴──── error, end, or no heartbeat came back ◄┘
//! ```
//!
//! Redis cuts a subscriber off whose queue became too long, and the socket can look healthy then. So this node sends
//! all nodes a number through a channel every second, and gives the connection up when none has come back for a while.
//! After each new connection all heads are compared: what was published meanwhile is not repeated.

use super::envelope::{self, Received};
use super::shared::ClusterShared;
use crate::faults::warn_limited;
use crate::ids::ConversationId;
use crate::mesh::nodes::FromNodes;
use futures_util::{FutureExt as _, StreamExt as _};
use redis::aio::{MultiplexedConnection, PubSubSink};
use redis::{AsyncCommands as _, AsyncConnectionConfig, Client, Msg, RedisError};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::time::{interval, sleep, timeout};

/// A connection must be made within this time, and each statement on it be answered.
const PATIENCE: Duration = Duration::from_secs(3);
/// The first pause before another attempt; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The connection is given up when this many have not come back: Redis is that many seconds behind, or silent.
const MISSING_MAX: u64 = 4;

/// Keeps the connections for as long as the server runs.
pub(super) async fn run(shared: Arc<ClusterShared>, client: Client) {
    let mut pause = PAUSE_MIN;
    loop {
        let began = Instant::now();
        let Err(reason) = receive(&shared, &client).await;
        *shared.publisher() = None;
        shared.status.went_down(&reason);
        warn_limited!(
            "no exchange with other nodes through Redis ({reason}); events are read from PostgreSQL meanwhile"
        );
        shared.check_all();
        pause = if began.elapsed() > PAUSE_MAX { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
        // Up to half of it at random: nodes that lost Redis together do not come back together.
        sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
    }
}

/// One life of the connections; returns why it ended.
async fn receive(shared: &ClusterShared, client: &Client) -> Result<Infallible, String> {
    let settings =
        AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
    let mut publisher = in_time(client.get_multiplexed_async_connection_with_config(&settings)).await?;
    let (mut sink, mut messages) = in_time(client.get_async_pubsub()).await?.split();
    shared.followed().begin_anew();
    in_time(sink.subscribe(shared.channel_of_all())).await?;
    while subscribe_some(shared, &mut sink).await? {}
    let _ = shared.broken.notified().now_or_never(); // that was the connection before
    *shared.publisher() = Some(publisher.clone());
    shared.status.came_up();
    tracing::info!("events are exchanged with other nodes through Redis");
    shared.check_all();

    let mut beats = interval(HEARTBEAT);
    let (mut sent, mut heard) = (0u64, 0u64);
    loop {
        tokio::select! {
            message = messages.next() => match message {
                None => return Err("Redis closed the connection".to_owned()),
                // A number that was not sent yet is of an earlier life of the connection.
                Some(message) => match take(shared, &message) {
                    Some(number) if number <= sent => heard = heard.max(number),
                    Some(_) | None => {}
                },
            },
            () = shared.follows.notified() => {
                // One chunk at a time, so that messages and heartbeats get their turn.
                if subscribe_some(shared, &mut sink).await? {
                    shared.follows.notify_one();
                }
            }
            () = shared.broken.notified() => return Err("Redis did not take what was published".to_owned()),
            _ = beats.tick() => {
                if sent - heard > MISSING_MAX {
                    return Err("no heartbeat came back: Redis no longer passes messages on to this node".to_owned());
                }
                sent += 1;
                beat(shared, &mut publisher, sent).await?;
            }
        }
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, RedisError>>) -> Result<T, String> {
    match timeout(PATIENCE, asked).await {
        Ok(answered) => answered.map_err(|error| error.to_string()),
        Err(_) => Err(format!("Redis did not answer within {PATIENCE:?}")),
    }
}

async fn beat(shared: &ClusterShared, publisher: &mut MultiplexedConnection, number: u64) -> Result<(), String> {
    let Some(message) = envelope::heartbeat(shared.node, number) else { return Ok(()) };
    in_time(publisher.publish::<_, _, ()>(shared.channel_of_all(), message)).await
}

/// Subscribes to the channels of some newly followed conversations, whose heads are compared then, and leaves others.
/// Returns whether there may be more.
async fn subscribe_some(shared: &ClusterShared, sink: &mut PubSubSink) -> Result<bool, String> {
    let (joined, left) = shared.followed().next_changes();
    let channels = |some: &[ConversationId]| some.iter().map(|one| shared.channel_of(*one)).collect::<Vec<String>>();
    if !left.is_empty() {
        in_time(sink.unsubscribe(channels(&left))).await?;
    }
    if !joined.is_empty() {
        in_time(sink.subscribe(channels(&joined))).await?;
        for conversation in &joined {
            shared.followed().check(*conversation);
        }
        shared.unchecked.notify_one();
    }
    Ok(!joined.is_empty() || !left.is_empty())
}

/// Takes one message; the number, if it was a heartbeat of this node.
fn take(shared: &ClusterShared, message: &Msg) -> Option<u64> {
    let status = &shared.status;
    let now = Instant::now();
    match envelope::read(shared.node, message.get_payload_bytes(), now) {
        Ok(Received::Heartbeat(number)) => {
            shared.heard().record(shared.node, now);
            return Some(number);
        }
        Ok(Received::HeartbeatOf(node)) => shared.heard().record(node, now),
        Ok(Received::Own) => {}
        Ok(Received::Frame(frame)) => {
            status.received.fetch_add(1, Relaxed);
            let conversation = if let FromNodes::Event(event) = &frame { Some(event.conversation) } else { None };
            if !shared.to_shards.pass(frame) {
                status.unreceived.fetch_add(1, Relaxed);
                if let Some(conversation) = conversation {
                    shared.followed().check(conversation);
                    shared.unchecked.notify_one();
                }
            }
        }
        Err(error) => {
            status.unreceived.fetch_add(1, Relaxed);
            warn_limited!(channel = message.get_channel_name(), "a message of another node was left out: {error}");
        }
    }
    None
}
