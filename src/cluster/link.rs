//! The life of the connection to Redis, and what arrives through it.
//!
//! ```text
//!   down ──connected──► subscribing ──every channel, heads compared──► standing
//!    ▲                       │                                            │
//!    └──── pause, doubling ◄─┴──── error, end, or no heartbeat came back ◄┘
//! ```
//!
//! Redis cuts a subscriber off whose queue became too long, and the socket can look healthy then. So this node sends
//! itself a number every second through the channel of all nodes, who learn by it that this node is there
//! ([`super::heard`]), and on a Redis Cluster also through a channel in each other partition. It gives the connection
//! up when none has come back for a while. After each new connection all heads are compared: what was published
//! meanwhile is not repeated. The loss of one server of a Redis Cluster also ends the connection, since what it passed
//! on is lost.

use super::channels::PARTITIONS;
use super::connection::RedisConnection;
use super::envelope::{self, Received};
use super::shared::ClusterShared;
use crate::faults::warn_limited;
use crate::mesh::nodes::FromNodes;
use futures_util::FutureExt as _;
use redis::aio::SendError;
use redis::{ConnectionInfo, Msg, PushInfo, PushKind};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::{interval, sleep};

/// The first pause before another attempt; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The connection is given up when this many have not come back: Redis is that many seconds behind, or silent.
const MISSING_MAX: u64 = 4;

/// Keeps the connection for as long as the server runs.
pub(super) async fn run(shared: Arc<ClusterShared>, addresses: Vec<ConnectionInfo>) {
    let (mut pause, mut beat, mut life) = (PAUSE_MIN, 0, 0);
    loop {
        let began = Instant::now();
        life += 1;
        let receiver = Arc::new(Receiver::new(Arc::clone(&shared), beat));
        let Err(reason) = live(&receiver, &addresses, life, &mut beat).await;
        receiver.is_over.store(true, Relaxed);
        shared.end_life();
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

/// What one connection has received.
struct Receiver {
    shared: Arc<ClusterShared>,
    /// The last heartbeat that came back through each partition.
    heard: [AtomicU64; PARTITIONS],
    /// A server has closed its connection.
    ended: Notify,
    /// What arrives after the end of this life comes through the next one too.
    is_over: AtomicBool,
}

/// The life of the connection with this number; returns why it ended. `beat` is the number of the last heartbeat, which
/// only grows: one of an earlier life is no news.
async fn live(
    receiver: &Arc<Receiver>,
    addresses: &[ConnectionInfo],
    life: u64,
    beat: &mut u64,
) -> Result<Infallible, String> {
    let shared = &*receiver.shared;
    let taker = Arc::clone(receiver);
    let receive = Arc::new(move |pushed: PushInfo| {
        taker.take(pushed);
        Ok::<(), SendError>(())
    });
    let connection = RedisConnection::open(addresses, receive).await?;
    shared.followed().begin_anew();
    let beating = (0..connection.partitions()).map(|partition| shared.channels.heartbeats(partition));
    connection.subscribe(beating).await?;
    while subscribe_some(shared, &connection).await? {}
    let _ = shared.broken.notified().now_or_never(); // that was the connection before
    shared.begin_life(life, connection.clone());
    shared.status.came_up();
    tracing::info!("events are exchanged with other nodes through Redis");
    shared.check_all();

    let mut beats = interval(HEARTBEAT);
    loop {
        tokio::select! {
            () = receiver.ended.notified() => return Err("Redis closed the connection".to_owned()),
            () = shared.follows.notified() => {
                // One chunk at a time, so that heartbeats get their turn.
                if subscribe_some(shared, &connection).await? {
                    shared.follows.notify_one();
                }
            }
            () = shared.broken.notified() => return Err("Redis did not take what was published".to_owned()),
            _ = beats.tick() => {
                let heard = receiver.heard[..connection.partitions()].iter().map(|heard| heard.load(Relaxed)).min();
                if heard.is_some_and(|heard| beat.saturating_sub(heard) > MISSING_MAX) {
                    return Err("no heartbeat came back: Redis no longer passes messages on to this node".to_owned());
                }
                if heard == Some(*beat) {
                    shared.heard().record(shared.node, life, Instant::now());
                }
                *beat += 1;
                let through = |partition| {
                    let message = envelope::heartbeat(shared.node, partition, *beat, life)?;
                    Some((shared.channels.heartbeats(partition), message))
                };
                connection.publish((0..connection.partitions()).filter_map(through).collect()).await?;
            }
        }
    }
}

/// Subscribes to the channels of some newly followed conversations, whose heads are compared then, and leaves others.
/// Returns whether there may be more.
async fn subscribe_some(shared: &ClusterShared, connection: &RedisConnection) -> Result<bool, String> {
    let (joined, left) = shared.followed().next_changes();
    if !left.is_empty() {
        connection.unsubscribe(left.iter().map(|one| shared.channels.conversation(*one))).await?;
    }
    if !joined.is_empty() {
        connection.subscribe(joined.iter().map(|one| shared.channels.conversation(*one))).await?;
        for conversation in &joined {
            shared.followed().check(*conversation);
        }
        shared.unchecked.notify_one();
    }
    Ok(!joined.is_empty() || !left.is_empty())
}

impl Receiver {
    /// Of a new connection. `beat` is the number of the last heartbeat before it.
    fn new(shared: Arc<ClusterShared>, beat: u64) -> Self {
        let heard = std::array::from_fn(|_| AtomicU64::new(beat));
        Self { shared, heard, ended: Notify::new(), is_over: AtomicBool::new(false) }
    }

    /// Takes what Redis has sent by itself.
    fn take(&self, pushed: PushInfo) {
        if self.is_over.load(Relaxed) {
            return;
        }
        match pushed.kind {
            PushKind::Disconnection => self.ended.notify_one(),
            PushKind::Message | PushKind::SMessage => {
                if let Some(message) = Msg::from_push_info(pushed) {
                    self.take_message(&message);
                }
            }
            _ => {} // confirmations
        }
    }

    fn take_message(&self, message: &Msg) {
        let (shared, status) = (&self.shared, &self.shared.status);
        let now = Instant::now();
        match envelope::read(shared.node, message.get_payload_bytes(), now) {
            Ok(Received::Heartbeat(partition, number)) => {
                if let Some(heard) = self.heard.get(partition) {
                    heard.fetch_max(number, Relaxed);
                }
            }
            Ok(Received::HeartbeatOf(node, life)) => {
                if shared.heard().record(node, life, now) {
                    shared.check_all();
                }
            }
            Ok(Received::Revoked(sessions)) => (shared.revoked)(sessions),
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
    }
}
