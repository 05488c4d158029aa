//! One core: its sockets, its sessions, its conversations.
//!
//! The path of a message in file names: `accept` (request head, token) → `admit` (the user's shard counts and looks up)
//! → `settle` (the home shard opens) → `receive` (bytes to commands) → `commands` → `send` (to the owner) → `owner` (to
//! the I/O shard and back) → `publish` → `deliver` (into every subscriber's queue). `subscriptions` and `catch_up`
//! replay what a subscriber missed; `presence` answers who is online; `timers`, `control`, `close` and `drain` are
//! named after their work; `pump` is the turn that calls them all.
//!
//! A [`Shard`] sequences parts that do no I/O: [`connections`] and [`session`], [`requests`], [`shutdown_steps`], and
//! from [`crate::chat`] the directory, the rooms and the budgets. I/O is behind the traits of [`world`].
//!
//! Invariants:
//! - everything here belongs to one thread; what other threads may touch is in `mesh`;
//! - a request is answered exactly once, see [`requests`]; otherwise a client would wait forever, or lose a slot;
//! - a fault of a peer closes that peer's connection and nothing else.

mod accept;
mod admit;
mod bot_commands;
mod catch_up;
mod charges;
mod close;
mod commands;
pub mod connections;
mod control;
mod deliver;
mod drain;
mod early;
mod filter;
mod input_wait;
mod interval;
mod lanes_taken;
mod nodes;
mod owner;
mod pending_heads;
mod permissions;
mod presence;
mod pressure;
mod publish;
pub mod pump;
mod queues;
mod rate_limits;
mod reads;
pub mod real;
mod receive;
mod refusals;
mod reply;
pub mod requests;
mod send;
pub mod session;
mod settle;
pub mod shutdown_steps;
mod subscriptions;
mod timers;
mod wheel;
pub mod world;

use crate::address::{ClientNetwork, TrustedProxies};
use crate::chat::directory::Directory;
use crate::chat::filter::FilterRuleSet;
use crate::chat::in_order::InOrder;
use crate::chat::rooms::{Behind, Rooms};
use crate::chat::typing::RecentRestrictions;
use crate::ids::{ConnId, ConversationId, ShardId, UserId};
use crate::limits::Features;
use crate::mesh::counters::ShardCounters;
use crate::mesh::live::LiveSettings;
use crate::mesh::overload::Overload;
use crate::mesh::placement::Placement;
use crate::mesh::port::Lanes as _;
use crate::mesh::quota::Quota;
use crate::mesh::standing::{MarkedUsers, UserBudgets};
use crate::net::Chunk;
use crate::wire::json::JsonReader;
use crate::wire::ws::deflate::{Deflater, Inflater};
use bot_commands::BotCommands;
use connections::Connections;
use input_wait::InputWait;
use interval::Interval;
use lanes_taken::LanesTaken;
use pending_heads::PendingHeads;
use pressure::Pressure;
use rate_limits::RateLimits;
use requests::Requests;
use shutdown_steps::ShutdownSteps;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Instant;
use world::{Clock as _, World};

/// The settings of every shard.
pub struct ShardSettings {
    /// What a reload replaces, as it was at the start.
    pub live: Arc<LiveSettings>,
    /// The enabled features.
    pub features: Features,
    /// Whether no file is released without a virus scan; the scanner's state changes it.
    pub scans_files: Arc<AtomicBool>,
    /// Pages from this machine may connect too: for development.
    pub loopback_origins: bool,
    /// Heartbeat interval, in milliseconds.
    pub heartbeat_ms: u64,
    /// Time in which a request head must be complete, in milliseconds.
    pub head_timeout_ms: u64,
    /// Time in which a WebSocket message must be complete after its first byte, in milliseconds.
    pub message_timeout_ms: u64,
    /// Proxies, whose sockets carry the requests of many clients.
    pub trusted_proxies: TrustedProxies,
    /// Whether these proxies send a PROXY header before a request.
    pub proxy_protocol: bool,
    /// Whether permessage-deflate is negotiated.
    pub deflate: bool,
    /// Whether texts are filtered.
    pub content_filtering: bool,
    /// The rules of the content filter at the start.
    pub filter: Arc<FilterRuleSet>,
    /// What part of the budgets the I/O shard can serve.
    pub overload: Arc<Overload>,
    /// Connections over all shards.
    pub connections: Arc<AtomicUsize>,
    /// Those of them whose sockets are in the tables of the rings, and so take no descriptor of the process.
    pub direct_sockets: Arc<AtomicUsize>,
    /// How many of the others there may be.
    pub descriptors_max: usize,
    /// WebSockets of each client network over all shards.
    pub networks: Quota<ClientNetwork>,
    /// Shards that have nothing left to do. All of them end together, since each carries the others' answers.
    pub drained: AtomicUsize,
    /// The process's clock starts here.
    pub started: Instant,
}

/// The pending work of a shard; see [`Shard::audit`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Audit {
    /// Requests without an answer.
    pub requests_waiting: usize,
    /// Mutations without a final outcome.
    pub commits_in_flight: usize,
    /// Reads without a result.
    pub reads_in_flight: usize,
    /// Command slots in use, over all connections.
    pub slots_in_use: usize,
    /// Events that have not reached all subscribers.
    pub events_waiting: bool,
    /// Ended connections that were not yet reported to the user's shard.
    pub departures_waiting: usize,
    /// Slash commands without an answer, and answers that were not delivered yet.
    pub invocations_waiting: usize,
}

/// The state of one core.
pub struct Shard<W: World> {
    id: ShardId,
    placement: Placement,
    settings: Arc<ShardSettings>,
    /// The part of them that a reload replaces, as it is now.
    live: Arc<LiveSettings>,
    counters: Arc<ShardCounters>,
    sockets: W::Sockets,
    lanes: W::Lanes,
    clock: W::Clock,
    connections: Connections,
    pending_heads: PendingHeads,
    directory: Directory,
    rooms: Rooms<Chunk>,
    /// Events of the conversations that this shard owns, which wait for events of other nodes.
    in_order: InOrder,
    /// Of the conversations that this shard owns.
    restrictions: RecentRestrictions,
    requests: Requests<W::Socket>,
    /// Of the changes that this shard owns.
    pressure: Pressure,
    input_wait: InputWait,
    input_pressure: Pressure,
    shutdown: Option<ShutdownSteps>,
    rate_limits: RateLimits,
    /// Users whose spending is not published to other nodes yet. Each is in the list of one shard at a time.
    spenders: Vec<(UserId, Arc<UserBudgets>)>,
    filter: Arc<FilterRuleSet>,
    marked_users: Arc<MarkedUsers>,
    json: JsonReader,
    inflater: Inflater,
    deflater: Deflater,
    /// The clock of this turn.
    now: Instant,
    now_ms: u64,
    /// Before this time no client counts as idle, because the shard was delayed.
    paused_until_ms: u64,
    presence_rounds: Interval,
    presence_repeats: Interval,
    /// The part of the connected users whose presence was repeated last.
    presence_part: u64,
    replay_retries: Interval,
    sweeps: Interval,
    taken: LanesTaken,
    /// Subscribers that fell behind in the fan-out of this turn.
    behind: Vec<(ConnId, ConversationId, Behind)>,
    /// Refused connections beyond the maximum that wait for their client's end.
    refusals: usize,
    /// Users with an ended connection here that was not yet reported to their shard.
    departures: VecDeque<(UserId, Option<ConnId>)>,
    /// The slash commands of the bots of this shard.
    bots: BotCommands,
}

impl<W: World> Shard<W> {
    /// A shard with these sockets, lanes and clock.
    pub fn new(
        id: ShardId,
        settings: Arc<ShardSettings>,
        counters: Arc<ShardCounters>,
        (sockets, lanes, mut clock): (W::Sockets, W::Lanes, W::Clock),
    ) -> Self {
        let (mut directory, mut rooms) =
            (Directory::default(), Rooms::new(settings.live.limits.max_outbound_queue_bytes));
        if lanes.has_nodes() {
            directory.users.tell_nodes();
            rooms.owned.tell_nodes();
        }
        Self {
            id,
            placement: lanes.placement(),
            sockets,
            counters,
            connections: Connections::default(),
            pending_heads: PendingHeads::default(),
            directory,
            rooms,
            in_order: InOrder::default(),
            restrictions: RecentRestrictions::default(),
            requests: Requests::new(id, lanes.storage_room(), clock.random()),
            pressure: Pressure::default(),
            input_wait: InputWait::default(),
            input_pressure: Pressure::default(),
            shutdown: None,
            rate_limits: RateLimits::new(&settings.live.limits),
            spenders: Vec::new(),
            live: Arc::clone(&settings.live),
            filter: Arc::clone(&settings.filter),
            marked_users: Arc::default(),
            json: JsonReader::default(),
            inflater: Inflater::default(),
            deflater: Deflater::default(),
            now: settings.started,
            now_ms: 0,
            paused_until_ms: 0,
            presence_rounds: Interval::new(interval::PRESENCE_MS),
            presence_repeats: Interval::new(interval::PRESENCE_REPEAT_MS),
            presence_part: 0,
            replay_retries: Interval::new(interval::REPLAY_RETRY_MS),
            sweeps: Interval::new(interval::SWEEP_MS),
            taken: LanesTaken::new(lanes.placement().shards()),
            behind: Vec::new(),
            refusals: 0,
            departures: VecDeque::new(),
            bots: BotCommands::default(),
            lanes,
            clock,
            settings,
        }
    }

    /// The shard's sockets, for the world that drives them.
    pub fn sockets(&self) -> &W::Sockets {
        &self.sockets
    }

    /// The same, to be changed.
    pub fn sockets_mut(&mut self) -> &mut W::Sockets {
        &mut self.sockets
    }

    /// Pending work: none once the shard is idle. Anything left is a leak.
    pub fn audit(&self) -> Audit {
        Audit {
            requests_waiting: self.requests.waiting(),
            commits_in_flight: self.requests.commits_in_flight(),
            reads_in_flight: self.requests.reads_in_flight(),
            slots_in_use: self.connections.sessions().map(|session| session.in_flight as usize).sum(),
            events_waiting: self.rooms.have_backlog() || !self.in_order.is_empty(),
            departures_waiting: self.departures.len(),
            invocations_waiting: self.bots.waiting(),
        }
    }

    fn read_clock(&mut self) {
        self.now = self.clock.now();
        self.now_ms = self.process_ms(self.now);
    }

    /// A time in milliseconds of the process's clock.
    fn process_ms(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.settings.started).as_millis() as u64
    }

    /// The process's clock in nanoseconds, shared by all shards: budgets are compared across them.
    fn now_ns(&self) -> u64 {
        self.now.duration_since(self.settings.started).as_nanos() as u64
    }
}
