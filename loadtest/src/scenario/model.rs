//! The keys of a scenario and their defaults.

use crate::payload::Sizes;
use crate::plan::Spacing;
use crate::protocol::Action;
use crate::protocol::veza::wire::Format;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a run does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// Its purpose, in a sentence.
    pub description: String,
    /// How frames are written.
    pub format: FormatChoice,
    /// Offer permessage-deflate.
    pub compression: bool,
    /// Check the promises of the protocol.
    pub checks: bool,
    /// Users, connections and rooms.
    pub population: Population,
    /// The messages to send.
    pub load: Load,
    /// Commands other than messages, per second of all connections together.
    pub actions: Actions,
    /// Connections that are all closed at once.
    pub storm: Option<Storm>,
    /// Connections that stop reading for a while.
    pub slow_readers: Option<SlowReaders>,
    /// Log-ins over HTTP instead of messages.
    pub logins: Option<Logins>,
    /// Files instead of a load: their memory, messages beside them, their downloads.
    pub uploads: Option<Uploads>,
    /// The load in turn on one server and on the nodes of a cluster.
    pub nodes: Option<Nodes>,
    /// Configuration of the server that is started for the run, by key (`limits.max_message_length`). A server given
    /// with `--url` must have it already.
    pub server: BTreeMap<String, toml::Value>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            description: String::new(),
            format: FormatChoice::Json,
            compression: false,
            checks: true,
            population: Population::default(),
            load: Load::default(),
            actions: Actions::default(),
            storm: None,
            slow_readers: None,
            logins: None,
            uploads: None,
            nodes: None,
            server: BTreeMap::new(),
        }
    }
}

/// How frames are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FormatChoice {
    /// Text frames.
    Json,
    /// Binary frames.
    Msgpack,
    /// Connections take one and the other in turn.
    Both,
}

impl FormatChoice {
    /// The formats that connections take in turn.
    pub fn formats(self) -> Vec<Format> {
        match self {
            Self::Json => vec![Format::Json],
            Self::Msgpack => vec![Format::Msgpack],
            Self::Both => vec![Format::Json, Format::Msgpack],
        }
    }
}

/// Users, connections and rooms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Population {
    /// How many users.
    pub users: u32,
    /// How many connections each user has.
    pub connections_per_user: u32,
    /// Classes of rooms.
    pub rooms: Vec<RoomClass>,
}

impl Default for Population {
    fn default() -> Self {
        Self { users: 50, connections_per_user: 1, rooms: vec![RoomClass::default()] }
    }
}

/// Rooms of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RoomClass {
    /// What it is called in results.
    pub name: String,
    /// The number of rooms.
    pub count: u32,
    /// Users in each; 0 spreads all users over the rooms evenly.
    pub size: u32,
    /// What sort of conversation.
    pub kind: RoomKind,
    /// Its share of all sends, relative to the other classes' shares.
    pub share: f64,
    /// Connections that send in each room; 0 for all.
    pub senders: u32,
}

impl Default for RoomClass {
    fn default() -> Self {
        Self { name: "rooms".to_owned(), count: 5, size: 0, kind: RoomKind::PublicRoom, share: 1.0, senders: 0 }
    }
}

/// Sorts of conversations.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomKind {
    /// All users may join.
    PublicRoom,
    /// Its creator chooses the members.
    Group,
    /// Between two.
    Direct,
}

/// How messages are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// By a plan that does not depend on the server; latency counts from the plan.
    Open,
    /// Every sender keeps its window full; latency counts from the actual send.
    Closed,
    /// An open loop in growing steps, until the server does not sustain one.
    Saturate,
}

/// The messages of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Load {
    /// Open or closed loop.
    pub mode: Mode,
    /// Messages per second, all connections together (open loop).
    pub rate: f64,
    /// How sends are spaced (open loop).
    pub spacing: Spacing,
    /// Most unanswered messages of one connection.
    pub in_flight: u32,
    /// In an open loop, a connection that was refused sends nothing until the time that the server named. What is
    /// planned for it meanwhile is held back and never sent. In a closed loop this is always so.
    pub back_off: bool,
    /// Length of each message's content, characters: a number, or a list of lengths with weights.
    pub payload_bytes: PayloadBytes,
    /// How long to send.
    #[serde(with = "humantime_serde")]
    pub duration: Duration,
    /// How long the rate grows evenly at the beginning.
    #[serde(with = "humantime_serde")]
    pub ramp: Duration,
    /// How long to wait for the last acks and deliveries.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
    /// Same seed, same plan of sends.
    pub seed: u64,
    /// The steps of mode `saturate`.
    pub saturate: Saturate,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            mode: Mode::Open,
            rate: 100.0,
            spacing: Spacing::Poisson,
            in_flight: 64,
            back_off: false,
            payload_bytes: PayloadBytes::All(128),
            duration: Duration::from_secs(10),
            ramp: Duration::ZERO,
            drain: Duration::from_secs(10),
            seed: 1,
            saturate: Saturate::default(),
        }
    }
}

/// Length of messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PayloadBytes {
    /// One for all.
    All(usize),
    /// Several.
    Weighted(Vec<Weighted>),
}

impl PayloadBytes {
    /// As contents are written.
    pub fn sizes(&self) -> Sizes {
        match self {
            Self::All(bytes) => Sizes::all(*bytes),
            Self::Weighted(sizes) => {
                Sizes::weighted(&sizes.iter().map(|size| (size.bytes, size.weight)).collect::<Vec<_>>())
            }
        }
    }
}

/// One length of several.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weighted {
    /// The length, characters.
    pub bytes: usize,
    /// How often, relative to the others.
    pub weight: f64,
}

/// Steps of a search for the highest sustained rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Saturate {
    /// The first step's rate, messages per second.
    pub rate_start: f64,
    /// Each step's rate is the one before times this.
    pub rate_factor: f64,
    /// How long a step is, whole seconds.
    pub step_seconds: u32,
    /// A step is sustained only if 99 in 100 acks arrive within this.
    pub p99_limit_ms: f64,
    /// Most steps.
    pub steps_max: u32,
}

impl Default for Saturate {
    fn default() -> Self {
        Self { rate_start: 1000.0, rate_factor: 1.5, step_seconds: 5, p99_limit_ms: 100.0, steps_max: 20 }
    }
}

/// Commands other than messages, per second of all connections together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Actions {
    /// Typing notices.
    pub typing: f64,
    /// Read markers.
    pub mark_read: f64,
    /// Pages of history.
    pub get_history: f64,
}

impl Actions {
    /// The rate of one.
    pub fn rate(&self, action: Action) -> f64 {
        match action {
            Action::Typing => self.typing,
            Action::MarkRead => self.mark_read,
            Action::GetHistory => self.get_history,
        }
    }
}

/// Connections that are all closed at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storm {
    /// When, after the first send.
    #[serde(with = "humantime_serde")]
    pub at: Duration,
    /// Share of the connections. These send nothing, unless it is all of them.
    pub share: f64,
}

impl Default for Storm {
    fn default() -> Self {
        Self { at: Duration::from_secs(5), share: 0.9 }
    }
}

/// Connections that stop reading for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlowReaders {
    /// When, after the first send.
    #[serde(with = "humantime_serde")]
    pub at: Duration,
    /// For how long.
    #[serde(rename = "for", with = "humantime_serde")]
    pub length: Duration,
    /// Share of the connections. These send nothing.
    pub share: f64,
}

impl Default for SlowReaders {
    fn default() -> Self {
        Self { at: Duration::from_secs(2), length: Duration::from_secs(5), share: 0.1 }
    }
}

/// Log-ins over HTTP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logins {
    /// Log-ins per second; 0 for as many as `concurrency` allows.
    pub rate: f64,
    /// Most at the same time.
    pub concurrency: u32,
}

impl Default for Logins {
    fn default() -> Self {
        Self { rate: 0.0, concurrency: 64 }
    }
}

/// Uploads and downloads of files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Uploads {
    /// Bytes of each file.
    pub size_bytes: u64,
    /// Uploads at the same time, beside messages.
    pub at_once: u32,
    /// The pace of each of these; 0: as fast as possible.
    pub bytes_per_s: u64,
    /// Phases with uploads beside messages, and rounds of downloads.
    pub rounds: u32,
    /// What is measured.
    pub parts: Vec<UploadPart>,
}

impl Default for Uploads {
    fn default() -> Self {
        Self { size_bytes: 100 * 1024 * 1024, at_once: 8, bytes_per_s: 0, rounds: 3, parts: UploadPart::ALL.to_vec() }
    }
}

/// A part of the measurement of uploads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UploadPart {
    /// The server's memory during one upload.
    Memory,
    /// Messages beside uploads.
    Messages,
    /// Downloads beside nginx.
    Downloads,
}

impl UploadPart {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Messages, Self::Downloads];
}

/// One server and a cluster in turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nodes {
    /// Nodes of the cluster.
    pub count: u32,
    /// How often each rate is measured on both.
    pub rounds: u32,
    /// Messages per second, one after the other; none: `load.rate` only.
    pub rates: Vec<f64>,
}

impl Default for Nodes {
    fn default() -> Self {
        Self { count: 2, rounds: 3, rates: Vec::new() }
    }
}

impl Scenario {
    /// Connections in all.
    pub fn connections(&self) -> u32 {
        self.population.users * self.population.connections_per_user
    }

    /// Whether any messages are sent.
    pub fn sends(&self) -> bool {
        match self.load.mode {
            Mode::Open => self.load.rate > 0.0,
            Mode::Closed | Mode::Saturate => true,
        }
    }
}
