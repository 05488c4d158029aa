//! One core: its sockets, its sessions, its conversations.
//!
//! A message's life in file names: `accept` (request head, token) → `admit` (the user's shard counts and lets in) →
//! `session` (bytes to commands) → `commands` → `send` (to the owner) → `owner` (to the I/O shard and back, publishes) →
//! `deliver` (into every subscriber's queue, `subscriptions` says whose); `catch_up` replays what somebody missed; `timers`, `control` and `drain`
//! do what their names say; `presence` knows who is there; `pump` turns the wheel.
//!
//! Invariants:
//! - everything here belongs to one thread; what other threads may touch is in `mesh`;
//! - a request is answered exactly once: its place in [`pending::Pending`] is taken when it is made and given back
//!   when the answer comes, and the lanes that carry answers have a place for each;
//! - a fault of a peer closes that peer's connection and nothing else.

mod accept;
mod admit;
mod catch_up;
mod commands;
mod control;
mod deliver;
mod drain;
mod owner;
mod pending;
mod presence;
mod pump;
mod reads;
mod send;
mod session;
mod subscriptions;
mod timers;
mod wheel;

use crate::auth::token::TokenKeys;
use crate::chat::budget::Rate;
use crate::chat::published::PublishedIndex;
use crate::chat::subscribers::Room;
use crate::ids::{ConnId, ConversationId, SessionId, ShardId, UserId};
use crate::latency::Stage;
use crate::limits::{CHANGES_PER_MESSAGE, Features, Limits};
use crate::mesh::counters::ShardCounters;
use crate::mesh::frame::{Admission, MembershipChange};
use crate::mesh::lane::Mesh;
use crate::net::{Chunk, NetError, Sockets};
use crate::wire::command::RequestId;
use crate::wire::event;
use crate::wire::json::JsonReader;
use crate::wire::ws::close::CloseCode;
use crate::wire::ws::deflate::{Deflater, Inflater};
use admit::Registry;
use deliver::Backlog;
use pending::PendingTable;
use serde::Serialize;
use session::Client;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use wheel::Wheel;

pub use pump::run;

/// What every shard is told at start.
pub struct ShardSettings {
    /// Bounds that clients are told.
    pub limits: Limits,
    /// What is switched on.
    pub features: Features,
    /// Verifies tokens.
    pub keys: Arc<TokenKeys>,
    /// Web origins whose pages may connect, beside the server's own.
    pub allowed_origins: Vec<String>,
    /// Pages from this machine may connect too: for development.
    pub loopback_origins: bool,
    /// Time between two signs of life.
    pub heartbeat_ms: u64,
    /// Time in which a request head must be complete.
    pub head_timeout_ms: u64,
    /// Whether permessage-deflate is negotiated.
    pub deflate: bool,
    /// Whether texts are filtered.
    pub content_filtering: bool,
    /// How long a revocation is remembered: as long as an access token is good for.
    pub revocation_memory_ms: u64,
    /// Connections over all shards.
    pub connections: Arc<AtomicUsize>,
    /// Shards that have nothing left to do; all of them end together, since each carries the others' answers.
    pub drained: AtomicUsize,
    /// The process's clock starts here.
    pub started: Instant,
}

/// The state of one core.
pub struct Shard {
    id: ShardId,
    mesh: Arc<Mesh>,
    settings: Arc<ShardSettings>,
    counters: Arc<ShardCounters>,
    sockets: Sockets,
    /// By slot of the socket.
    clients: Vec<Client>,
    wheel: Wheel,
    /// This shard's subscribers.
    rooms: HashMap<ConversationId, Room>,
    /// Events that have not reached all of this shard's subscribers.
    backlogs: HashMap<ConversationId, Backlog>,
    /// Rooms with a backlog, each in one of these once.
    small_rooms: VecDeque<ConversationId>,
    large_rooms: VecDeque<ConversationId>,
    /// Conversations whose owner must be told something else than it was.
    interest_news: VecDeque<ConversationId>,
    /// Connections of each user that live here.
    local_users: HashMap<UserId, Vec<ConnId>>,
    /// As the users' shard: who is connected anywhere.
    registry: Registry,
    /// As the users' shard: whose presence has changed since it was last told.
    presence_news: BTreeSet<UserId>,
    /// Watches that may have lost their ground; at most as many as there are watches.
    presence_doubts: BTreeMap<ConnId, BTreeSet<UserId>>,
    presence_due_ms: u64,
    /// Connections here that hear of a user's presence.
    watched: HashMap<UserId, Vec<ConnId>>,
    /// Refused connections beyond the maximum that wait for their client's end.
    refusals: usize,
    /// Departures that their user's shard had no room for.
    departures: VecDeque<UserId>,
    /// As the conversations' owner.
    published: PublishedIndex,
    pending: PendingTable,
    /// Sockets that had no room among the reads.
    admissions_waiting: VecDeque<(Instant, Box<Admission>)>,
    commits_in_flight: usize,
    reads_in_flight: usize,
    /// Of these, what commands ask for, by user.
    reads_by_user: HashMap<UserId, usize>,
    /// Refusals that are sent a little later, oldest first.
    late_refusals: VecDeque<reads::LateRefusal>,
    /// Connections that wait for room among the reads.
    replays_waiting: VecDeque<ConnId>,
    /// Connections whose replay failed; tried again at the next tick.
    replays_failed: Vec<ConnId>,
    /// Memberships that changed lately: a connection whose conversations were read before must hear of them.
    recent_changes: VecDeque<(u64, MembershipChange)>,
    /// Sessions revoked lately, until every token of theirs has expired.
    revoked: HashMap<SessionId, u64>,
    message_rate: Rate,
    /// Everything else that a user changes or asks of others.
    change_rate: Rate,
    /// What a user asks to see.
    read_rate: Rate,
    json: JsonReader,
    inflater: Inflater,
    deflater: Deflater,
    /// The clock of this turn.
    now: Instant,
    now_ms: u64,
    /// Nobody's silence counts before this: the shard was held up.
    deaf_until_ms: u64,
    drain: Option<drain::Drain>,
    /// Shards and the I/O shard to wake at the end of the turn.
    ring_shards: u64,
    ring_storage: bool,
    next_mutation_id: u64,
}

impl Shard {
    /// A shard that listens on `listener`.
    ///
    /// # Errors
    /// [`NetError`] when the kernel refuses the ring.
    pub fn new(
        id: ShardId,
        mesh: Arc<Mesh>,
        settings: Arc<ShardSettings>,
        counters: Arc<ShardCounters>,
        listener: TcpListener,
    ) -> Result<Self, NetError> {
        let doorbell = mesh.bell(id).duplicate().map_err(NetError::Doorbell)?;
        let mut sockets = Sockets::new(id, doorbell, Arc::clone(counters.stages.of(Stage::SocketWrite)))?;
        sockets.listen(listener);
        let message_rate = Rate::per_minute(settings.limits.max_messages_per_minute);
        let change_rate = Rate::per_minute(settings.limits.max_messages_per_minute.saturating_mul(CHANGES_PER_MESSAGE));
        Ok(Self {
            id,
            sockets,
            counters,
            clients: Vec::new(),
            wheel: Wheel::default(),
            rooms: HashMap::new(),
            backlogs: HashMap::new(),
            small_rooms: VecDeque::new(),
            large_rooms: VecDeque::new(),
            interest_news: VecDeque::new(),
            local_users: HashMap::new(),
            registry: Registry::default(),
            presence_news: BTreeSet::new(),
            presence_doubts: BTreeMap::new(),
            presence_due_ms: 0,
            watched: HashMap::new(),
            refusals: 0,
            departures: VecDeque::new(),
            published: PublishedIndex::default(),
            pending: PendingTable::new(id),
            admissions_waiting: VecDeque::new(),
            commits_in_flight: 0,
            reads_in_flight: 0,
            reads_by_user: HashMap::new(),
            late_refusals: VecDeque::new(),
            replays_waiting: VecDeque::new(),
            replays_failed: Vec::new(),
            recent_changes: VecDeque::new(),
            revoked: HashMap::new(),
            message_rate,
            change_rate,
            read_rate: reads::rate(&settings.limits),
            json: JsonReader::default(),
            inflater: Inflater::default(),
            deflater: Deflater::default(),
            now: settings.started,
            now_ms: 0,
            deaf_until_ms: 0,
            drain: None,
            ring_shards: 0,
            ring_storage: false,
            // Unique over restarts and shards without a look at the database; 63 bits.
            next_mutation_id: rand::random::<u64>() >> 1,
            mesh,
            settings,
        })
    }

    fn tick_clock(&mut self) {
        self.now = Instant::now();
        self.now_ms = self.now.duration_since(self.settings.started).as_millis() as u64;
    }

    /// The process's clock in nanoseconds, shared by all shards: budgets are compared across them.
    fn now_ns(&self) -> u64 {
        self.now.duration_since(self.settings.started).as_nanos() as u64
    }

    fn mutation_id(&mut self) -> i64 {
        self.next_mutation_id = self.next_mutation_id.wrapping_add(1) & (u64::MAX >> 1);
        self.next_mutation_id as i64
    }

    fn unix_seconds() -> i64 {
        time::OffsetDateTime::now_utc().unix_timestamp()
    }

    fn client(&mut self, conn: ConnId) -> &mut Client {
        let slot = conn.slot() as usize;
        if self.clients.len() <= slot {
            self.clients.resize_with(slot + 1, Client::default);
        }
        &mut self.clients[slot]
    }

    /// Queues one message for one connection.
    fn say<T: Serialize>(&mut self, conn: ConnId, kind: &str, id: Option<&RequestId>, data: &T) {
        let Some(session) = self.clients.get(conn.slot() as usize).and_then(Client::session) else { return };
        if session.conn != conn || !session.peer.is_open() {
            return;
        }
        // Whoever asks for more than it reads is closed, before its answers fill the memory.
        if self.sockets.queued_bytes(conn) > 2 * self.settings.limits.max_outbound_queue_bytes {
            return self.close(conn, CloseCode::TooSlow);
        }
        match event::encode(session.format, kind, id, data) {
            // Replies are for one reader: compressing them would cost this core more than it saves the wire.
            Ok(frame) => self.send_frame(conn, frame),
            Err(words) => crate::faults::error_limited!("cannot serialise {kind}: {words}"),
        }
    }

    fn send_frame(&mut self, conn: ConnId, frame: Vec<u8>) {
        self.counters.bytes_out.add(frame.len() as u64);
        self.sockets.send(conn, Chunk::new(frame));
    }

    fn count_connections(&self, change: isize) {
        if change > 0 {
            self.settings.connections.fetch_add(change.unsigned_abs(), Ordering::Relaxed);
        } else {
            self.settings.connections.fetch_sub(change.unsigned_abs(), Ordering::Relaxed);
        }
    }
}
