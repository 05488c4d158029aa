//! The queues of a shard, as metrics show them: their lengths, and how long they have waited.
//!
//! A shard measures them at its tick, every 100 ms. So what it shows is up to a tick old, and work costs nothing more
//! for being measured. Of a queue inside the shard, the age is that of the oldest entry. An entry of a lane has no time
//! of its own, so the age of a lane is the time since its shard last took an item from it, or found it empty. A lane
//! that moves has an age of at most a tick or two, however long it is. The age of `http` is the time since the lane was
//! last seen empty at a tick.

use crate::latency::QueueGauge;

/// A queue of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ShardQueue {
    /// Lanes: requests of other shards.
    Requests,
    /// Lanes: deliveries of other shards.
    Deliveries,
    /// Lane: outcomes of mutations.
    Outcomes,
    /// Lane: results of reads.
    Results,
    /// Lane: frames of the control plane.
    Control,
    /// Lane: connections on their way to the control plane. All shards fill it; shard 0 measures it.
    Http,
    /// Lane: what the cluster thread has to send to other nodes.
    ToNodes,
    /// Lane: what other nodes have sent.
    FromNodes,
    /// Sockets with a valid token that wait for room among the reads.
    Admissions,
    /// Connections whose replay waits for room among the reads.
    ReplaysWaiting,
    /// Connections whose replay failed, and is tried again once a second.
    ReplaysDeferred,
    /// Refusals that are sent one or four seconds late, on purpose.
    LateRefusals,
    /// Events of rooms that have not reached all subscribers.
    Backlogs,
}

impl ShardQueue {
    /// Every queue, in index order.
    pub const ALL: [Self; 13] = [
        Self::Requests,
        Self::Deliveries,
        Self::Outcomes,
        Self::Results,
        Self::Control,
        Self::Http,
        Self::ToNodes,
        Self::FromNodes,
        Self::Admissions,
        Self::ReplaysWaiting,
        Self::ReplaysDeferred,
        Self::LateRefusals,
        Self::Backlogs,
    ];

    /// As the label of a metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Deliveries => "deliveries",
            Self::Outcomes => "outcomes",
            Self::Results => "results",
            Self::Control => "control",
            Self::Http => "http",
            Self::ToNodes => "to_nodes",
            Self::FromNodes => "from_nodes",
            Self::Admissions => "admissions",
            Self::ReplaysWaiting => "replays_waiting",
            Self::ReplaysDeferred => "replays_deferred",
            Self::LateRefusals => "late_refusals",
            Self::Backlogs => "backlogs",
        }
    }
}

/// The gauges of a shard's queues.
#[derive(Debug, Default)]
pub struct ShardQueues([QueueGauge; ShardQueue::ALL.len()]);

impl ShardQueues {
    /// The gauge of a queue.
    #[must_use]
    pub fn of(&self, queue: ShardQueue) -> &QueueGauge {
        &self.0[queue as usize]
    }
}

const _: () = assert!(ShardQueue::Backlogs as usize + 1 == ShardQueue::ALL.len());
