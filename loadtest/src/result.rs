//! The result of a run: the one shape that the terminal, the JSON file, the HTML report and the comparisons share.
//!
//! Keys have their units in their names, and are only ever added, so results of an older version stay readable.
//! Latencies are in microseconds. A histogram is stored as `HdrHistogram` V2+DEFLATE in base64, so two results can be
//! merged or compared without loss.

use crate::violations::Violations;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of this shape.
pub const RESULT_VERSION: u32 = 1;

/// One run of one scenario against one system.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunResult {
    /// [`RESULT_VERSION`] of the program that wrote it.
    pub version: u32,
    /// The name of the run in reports: that of `--label`, or the scenario's.
    pub label: String,
    /// What was measured.
    pub system: SystemUnderTest,
    /// When sending began, RFC 3339.
    pub started_at: String,
    /// The machine that ran both sides.
    pub machine: Machine,
    /// The scenario with all overrides, as it was run.
    pub scenario: serde_json::Value,
    /// How long was sent (or, for storms, how long it took), seconds: the window that rates and CPU are measured over.
    pub seconds: f64,
    /// Ctrl-C cut it short.
    pub interrupted: bool,
    /// Counts of what happened, including the drain after sending: the totals that the checks cover.
    pub counts: RunCounts,
    /// What of it happened while sending. Absent in results of earlier versions; [`window`](Self::window) answers
    /// for both.
    pub sending: Option<Window>,
    /// Error replies by code.
    pub errors: BTreeMap<String, u64>,
    /// Planned send → acknowledgement.
    pub ack: Latency,
    /// Planned send → arrival at a subscriber.
    pub delivery: Latency,
    /// Planned send → written by the generator, without messages that a window delayed: the generator's own share.
    pub send_lag: Latency,
    /// Time of the scenario's other operation (log-in, reconnection until caught up, history page), by name.
    pub operations: BTreeMap<String, Latency>,
    /// Deliveries by class of room (`small`, `large`, …), for scenarios with several.
    pub classes: Vec<ClassResult>,
    /// One entry per second.
    pub timeline: Vec<Second>,
    /// Who used how much of the machine while sending.
    pub usage: Usage,
    /// The server's own metrics, if it has our `/metrics`.
    pub server: Option<ServerSide>,
    /// What the saturation search found.
    pub saturation: Option<Saturation>,
    /// Why the generator, not the server, was the limit; empty when it was not.
    pub generator_limits: Vec<String>,
    /// Further remarks for people.
    pub notes: Vec<String>,
    /// Promises that were broken.
    pub violations: Violations,
}

impl RunResult {
    /// What happened in [`seconds`](Self::seconds): what rates and shares of CPU are of. For results that do not tell
    /// it, the totals.
    pub fn window(&self) -> Window {
        let counts = &self.counts;
        self.sending.unwrap_or(Window {
            sent: counts.sent,
            acked: counts.acked,
            delivered: counts.delivered,
            other_events: counts.other_events,
            other_commands: counts.other_commands,
        })
    }
}

/// What happened while sending, and not in the drain after it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Window {
    /// Messages written, repetitions not counted.
    pub sent: u64,
    /// Acknowledged.
    pub acked: u64,
    /// Arrivals of this run's messages at subscribers.
    pub delivered: u64,
    /// Other events.
    pub other_events: u64,
    /// Other commands answered.
    pub other_commands: u64,
}

/// The system under test.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SystemUnderTest {
    /// Its name.
    pub name: String,
    /// Its version, as it reports it.
    pub version: String,
    /// What an acknowledgement promises: "fsync", "memory", "none".
    pub durability: String,
    /// Its threads or shards, when known.
    pub workers: Option<u32>,
}

/// The machine.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// Cores this process may use.
    pub cores: u32,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// Distribution.
    pub os: String,
    /// Load average of one minute when the run began: other work on a shared machine.
    pub load_1m: f64,
}

/// What happened.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunCounts {
    /// Connections opened at the start.
    pub connections: u64,
    /// Users behind them.
    pub users: u64,
    /// Rooms.
    pub rooms: u64,
    /// Messages written, repetitions not counted.
    pub sent: u64,
    /// Written again after a reconnection.
    pub resent: u64,
    /// Planned, never written.
    pub unsent: u64,
    /// Planned while the server had asked the connection to wait, and not written for that reason.
    pub held_back: u64,
    /// Acknowledged.
    pub acked: u64,
    /// Refused.
    pub refused: u64,
    /// Arrivals of this run's messages at subscribers.
    pub delivered: u64,
    /// Other events.
    pub other_events: u64,
    /// Other commands answered: typing, reads, history.
    pub other_commands: u64,
    /// Connections lost.
    pub lost: u64,
    /// Restored.
    pub restored: u64,
    /// Times a client received `lagging`.
    pub lagging: u64,
    /// Times a client received `reset`.
    pub resets: u64,
    /// Bytes received by the generator.
    pub received_bytes: u64,
}

/// A latency: the figures people read, and the histogram they came from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    /// How many values.
    pub count: u64,
    /// Arithmetic mean.
    pub mean_us: f64,
    /// Half are at most this.
    pub p50_us: u64,
    /// 90 in 100.
    pub p90_us: u64,
    /// 99 in 100.
    pub p99_us: u64,
    /// 999 in 1,000.
    pub p99_9_us: u64,
    /// The largest.
    pub max_us: u64,
    /// `HdrHistogram` V2+DEFLATE, base64.
    pub histogram: String,
}

/// Deliveries in one class of rooms.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClassResult {
    /// The class's name in the scenario.
    pub name: String,
    /// Connections subscribed to each of its rooms.
    pub room_size: u32,
    /// Acknowledgements.
    pub ack: Latency,
    /// Deliveries.
    pub delivery: Latency,
}

/// One second of the run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Second {
    /// Seconds since sending began, at the end of this one.
    pub at_s: f64,
    /// Messages due by the plan in this second (open loop).
    pub planned: u64,
    /// Messages written in this second.
    pub sent: u64,
    /// Acknowledged.
    pub acked: u64,
    /// Delivered.
    pub delivered: u64,
    /// Ack latency.
    pub ack_p50_us: u64,
    /// Ack latency.
    pub ack_p99_us: u64,
    /// Ack latency.
    pub ack_max_us: u64,
    /// Delivery latency.
    pub delivery_p50_us: u64,
    /// Delivery latency.
    pub delivery_p99_us: u64,
    /// Delivery latency.
    pub delivery_max_us: u64,
    /// CPU of the server's process, in cores.
    pub server_cores: f64,
    /// CPU of PostgreSQL (or of another store), in cores.
    pub store_cores: f64,
    /// CPU of the generator, in cores.
    pub generator_cores: f64,
    /// Resident memory of the server's process.
    pub server_rss_bytes: u64,
}

/// Who used what while sending.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// The server's process; absent when it is not on this machine or was not found.
    pub server: Option<ProcessUsage>,
    /// The store's processes.
    pub store: Option<ProcessUsage>,
    /// This program.
    pub generator: Option<ProcessUsage>,
    /// Anonymous memory of the server's process per connection: its growth between a third of the connections and all
    /// of them. Absent when there were too few connections, or it did not grow.
    pub server_bytes_per_connection: Option<f64>,
    /// Memory of the kernel for one end of a connection that has not sent yet: half of what its slabs grow by
    /// meanwhile. The pages of full buffers are not among them. Other programs of the machine change the slabs, too.
    pub kernel_bytes_per_connection: Option<f64>,
}

impl Usage {
    /// Memory of server and kernel per connection.
    pub fn all_bytes_per_connection(&self) -> Option<f64> {
        Some(self.server_bytes_per_connection? + self.kernel_bytes_per_connection?)
    }
}

/// One group of processes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessUsage {
    /// CPU used, seconds.
    pub cpu_s: f64,
    /// Of it in the kernel, seconds.
    pub system_s: f64,
    /// CPU per message acknowledged while sending, microseconds.
    pub cpu_us_per_message: f64,
    /// CPU per delivery while sending, microseconds.
    pub cpu_us_per_delivery: f64,
    /// Resident memory before the connections were opened.
    pub rss_before_bytes: u64,
    /// Resident memory at the end of sending.
    pub rss_bytes: u64,
    /// Voluntary context switches.
    pub voluntary_switches: u64,
    /// Involuntary context switches.
    pub involuntary_switches: u64,
    /// The CPU of its busiest thread, in cores: 1.0 is a full one.
    pub busiest_thread_cores: f64,
}

/// What our server's `/metrics` say about the run: differences between its start and its end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerSide {
    /// Commits.
    pub batches: u64,
    /// Mutations in them.
    pub batched_mutations: u64,
    /// Mutations per commit: mean and the percentiles the histogram allows.
    pub batch_size: BTreeMap<String, f64>,
    /// Duration of a commit, microseconds, the same.
    pub commit_us: BTreeMap<String, f64>,
    /// Stages of the hot path, in their order: name → percentiles, microseconds.
    pub stages: Vec<Stage>,
    /// Encodings per event and format, when the server counts them.
    pub encodes_per_event: Option<f64>,
}

/// One stage of the hot path.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// The number of occurrences.
    pub count: u64,
    /// Upper bound of the bucket with the median, microseconds.
    pub p50_us: f64,
    /// The same for 99 in 100.
    pub p99_us: f64,
}

/// What the saturation search found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Saturation {
    /// The steps, in order.
    pub steps: Vec<SaturationStep>,
    /// The highest sustained rate: messages per second.
    pub sustained_per_s: f64,
    /// What broke at the step after it.
    pub broke: String,
}

impl Saturation {
    /// The most that was acknowledged per second in a step, sustained or not.
    pub fn peak_per_s(&self) -> f64 {
        self.steps.iter().map(|step| step.acked_per_s).fold(0.0, f64::max)
    }
}

/// One step of the search.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SaturationStep {
    /// Planned messages per second.
    pub planned_per_s: f64,
    /// Acknowledged per second.
    pub acked_per_s: f64,
    /// Ack latency.
    pub ack_p50_us: u64,
    /// Ack latency.
    pub ack_p99_us: u64,
    /// Whether it was sustained.
    pub held: bool,
}
