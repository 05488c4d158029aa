//! What a shard counts, for the metrics page to read.
//!
//! Invariants:
//! - **one writer**: only the shard that owns a [`ShardCounters`] writes to it. Therefore an increment is a relaxed
//!   load and a relaxed store, an ordinary `add` to memory. A read-modify-write (`fetch_add`) would lock the cache
//!   line each time, some 20 cycles on a path that is taken for every event of every subscriber. A second writer
//!   would lose increments: counts would be too low, nothing else would break;
//! - **any reader**: the control plane reads while the shard writes. Single values are never torn; two values of one
//!   scrape may be a few increments apart, which no consumer of metrics can tell;
//! - **a line of its own**: `align(128)` (two 64-byte lines, since the prefetcher fetches pairs) keeps two shards'
//!   counters apart; otherwise every increment would evict the line from the other core's cache.
//!
//! Counters never go down and wrap at 2^64, that is never. Nothing here allocates after construction.

use super::shard_queue::ShardQueues;
use crate::error::ErrorCode;
use crate::ids::CommandId;
use crate::latency::{Count, LatencyHistogram, StageLatencies};
use std::time::Duration;

/// The outcome of a sent message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageOutcome {
    /// Durable, with a `seq` of its own.
    Committed,
    /// Had been committed before; the first result was returned.
    Duplicate,
    /// Refused; nothing was stored.
    Refused,
}

impl MessageOutcome {
    /// Every outcome, in index order.
    pub const ALL: [Self; 3] = [Self::Committed, Self::Duplicate, Self::Refused];

    /// As the label of a metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Duplicate => "duplicate",
            Self::Refused => "refused",
        }
    }
}

/// Why connections end, in groups that call for different reactions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseGroup {
    /// 1000: the client was done.
    Normal,
    /// 1001: this server shuts down, or the page was closed.
    GoingAway,
    /// 1002, 1003, 1007: the client breaks the protocol.
    Protocol,
    /// 1008, 1009, 4004, 4005: too big, too many, too fast.
    Limit,
    /// 4001, 4002: token expired, session revoked.
    Session,
    /// 4003: did not read fast enough.
    TooSlow,
    /// 4006: the client did not answer pings.
    Heartbeat,
    /// 1011: a fault of the server's.
    Internal,
    /// 1005, 1006 and the rest: the socket was lost.
    Lost,
}

impl CloseGroup {
    /// Every group, in index order.
    pub const ALL: [Self; 9] = [
        Self::Normal,
        Self::GoingAway,
        Self::Protocol,
        Self::Limit,
        Self::Session,
        Self::TooSlow,
        Self::Heartbeat,
        Self::Internal,
        Self::Lost,
    ];

    /// The group of a close code (RFC 6455 §7.4.1, and the server's own from 4000).
    #[must_use]
    pub fn of(code: u16) -> Self {
        match code {
            1000 => Self::Normal,
            1001 => Self::GoingAway,
            1002 | 1003 | 1007 => Self::Protocol,
            1008 | 1009 | 4004 | 4005 => Self::Limit,
            1011 => Self::Internal,
            4001 | 4002 => Self::Session,
            4003 => Self::TooSlow,
            4006 => Self::Heartbeat,
            _ => Self::Lost,
        }
    }

    /// As the label of a metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::GoingAway => "going_away",
            Self::Protocol => "protocol",
            Self::Limit => "limit",
            Self::Session => "session",
            Self::TooSlow => "too_slow",
            Self::Heartbeat => "heartbeat",
            Self::Internal => "internal",
            Self::Lost => "lost",
        }
    }
}

/// Everything one shard counts.
#[repr(align(128))]
#[derive(Debug)]
pub struct ShardCounters {
    /// When the shard last read its clock, in milliseconds since the process's start. It does so every 100 ms
    /// even when nothing happens.
    pub last_turn_ms: Count,
    /// The part of the changes that it accepts, percent: less while what clients send waits too long before it is read.
    pub accepted_percent: Count,
    /// Connections open now.
    pub connections_active: Count,
    /// Connections opened since the start.
    pub connections_opened: Count,
    /// Events put into subscribers' queues.
    pub events_delivered: Count,
    /// Events passed to another shard, once per shard.
    pub deliveries_cross_core: Count,
    /// Events published as the conversations' owner, to at least one shard.
    pub events_published: Count,
    /// Events of other nodes that were published here, to at least one shard.
    pub events_of_nodes: Count,
    /// What other nodes could not be told, because the lane to the cluster thread was full.
    pub not_told_nodes: Count,
    /// Serialisations of events, by index of the wire format: at most one per event and format.
    pub encodings: [Count; 2],
    /// Durations of each stage.
    pub stages: StageLatencies,
    /// Its queues.
    pub queues: ShardQueues,
    /// Bytes read from sockets.
    pub bytes_in: Count,
    /// Bytes written to sockets.
    pub bytes_out: Count,
    connections_closed: [Count; CloseGroup::ALL.len()],
    messages: [Count; MessageOutcome::ALL.len()],
    errors: [Count; ErrorCode::ALL.len()],
    command_names: &'static [&'static str],
    commands: Box<[LatencyHistogram]>,
}

impl ShardCounters {
    /// `command_names[i]` is the name of the command that [`Self::command_done`] calls `i`.
    #[must_use]
    pub fn new(command_names: &'static [&'static str]) -> Self {
        let accepted_percent = Count::default();
        accepted_percent.set(100);
        Self {
            last_turn_ms: Count::default(),
            accepted_percent,
            connections_active: Count::default(),
            connections_opened: Count::default(),
            events_delivered: Count::default(),
            deliveries_cross_core: Count::default(),
            events_published: Count::default(),
            events_of_nodes: Count::default(),
            not_told_nodes: Count::default(),
            encodings: Default::default(),
            stages: StageLatencies::default(),
            queues: ShardQueues::default(),
            bytes_in: Count::default(),
            bytes_out: Count::default(),
            connections_closed: Default::default(),
            messages: Default::default(),
            errors: std::array::from_fn(|_| Count::default()),
            command_names,
            commands: command_names.iter().map(|_| LatencyHistogram::default()).collect(),
        }
    }

    /// A connection has been accepted and upgraded.
    #[inline]
    pub fn connection_opened(&self) {
        self.connections_active.add(1);
        self.connections_opened.add(1);
    }

    /// A connection has ended; `code` is the close code, 1006 when there was none.
    #[inline]
    pub fn connection_closed(&self, code: u16) {
        self.connections_active.sub(1);
        self.connections_closed[CloseGroup::of(code) as usize].add(1);
    }

    /// A message has its outcome.
    #[inline]
    pub fn message(&self, outcome: MessageOutcome) {
        self.messages[outcome as usize].add(1);
    }

    /// A command was refused.
    #[inline]
    pub fn error(&self, code: ErrorCode) {
        self.errors[code as usize].add(1);
    }

    /// A command was answered.
    #[inline]
    pub fn command_done(&self, command: CommandId, duration: Duration) {
        if let Some(histogram) = self.commands.get(usize::from(command.0)) {
            histogram.record(duration, 1);
        }
    }

    /// Connections closed for reasons of this group.
    pub fn closed(&self, group: CloseGroup) -> u64 {
        self.connections_closed[group as usize].get()
    }

    /// Messages with this outcome.
    pub fn messages(&self, outcome: MessageOutcome) -> u64 {
        self.messages[outcome as usize].get()
    }

    /// Refusals with this code.
    pub fn errors(&self, code: ErrorCode) -> u64 {
        self.errors[code as usize].get()
    }

    /// Name and durations of each command.
    pub fn commands(&self) -> impl Iterator<Item = (&'static str, &LatencyHistogram)> {
        self.command_names.iter().copied().zip(self.commands.iter())
    }
}

const _: () = {
    assert!(std::mem::align_of::<ShardCounters>() == 128);
    // `as usize` indexes the arrays; the enums' order and their ALL must agree, at least in number.
    assert!(CloseGroup::Lost as usize + 1 == CloseGroup::ALL.len());
    assert!(MessageOutcome::Refused as usize + 1 == MessageOutcome::ALL.len());
    assert!(ErrorCode::Internal as usize + 1 == ErrorCode::ALL.len());
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_enum_indexes_its_own_slot() {
        assert!(CloseGroup::ALL.iter().enumerate().all(|(at, group)| *group as usize == at));
        assert!(MessageOutcome::ALL.iter().enumerate().all(|(at, outcome)| *outcome as usize == at));
        assert!(ErrorCode::ALL.iter().enumerate().all(|(at, code)| *code as usize == at));
    }

    #[test]
    fn a_duration_counts_for_its_command_only() {
        let counters = ShardCounters::new(&["ping", "send_message"]);
        counters.command_done(CommandId(1), Duration::from_micros(100));
        counters.command_done(CommandId(2), Duration::from_secs(1));
        let total: Vec<u64> = counters.commands().map(|(_, histogram)| histogram.counts().iter().sum()).collect();
        assert_eq!(total, [0, 1]);
    }

    #[test]
    fn the_gauge_goes_down_but_not_below_zero() {
        let counters = ShardCounters::new(&[]);
        counters.connection_opened();
        counters.connection_closed(4003);
        counters.connection_closed(1006);
        assert_eq!(counters.connections_active.get(), 0);
        assert_eq!((counters.closed(CloseGroup::TooSlow), counters.closed(CloseGroup::Lost)), (1, 1));
    }
}
