//! Where the time of a message goes: one histogram per stage, with one writer and any number of readers.
//!
//! Invariants:
//! - **one writer** per histogram (the thread that owns it), so recording is a relaxed load and a relaxed store: no
//!   lock, no read-modify-write, a handful of nanoseconds. A second writer would lose counts, nothing else;
//! - **any reader**, at any time: buckets only grow, so the difference of two readings is a histogram of what happened
//!   in between. Merging and percentiles are the reader's work, off the hot path;
//! - **bounded**: the buckets are `HdrHistogram`'s (a power of two split into [`PARTS`] equal parts), so that a value
//!   is known to 1/[`PARTS`] of itself whatever its size; values beyond the last bucket count in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A counter or gauge with one writer.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds; only the owning thread may call it.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Subtracts, but not below zero; only the owning thread may call it.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).saturating_sub(n), Relaxed);
    }

    /// Sets it; only the owning thread may call it.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The present value; any thread may ask.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Equal parts of a power of two: a value is known to one part in 16.
const PARTS: u64 = 16;
const PARTS_BITS: u32 = PARTS.trailing_zeros();
/// Bits below the smallest difference that is kept: 64 ns for times.
const UNIT_BITS: u32 = 6;
/// Powers of two above the linear start: up to 2^37 ns, two minutes.
const OCTAVES: usize = 26;
/// Buckets of a histogram.
pub const BUCKETS: usize = PARTS as usize * (OCTAVES + 1) + PARTS as usize;

/// The bucket of a value, in units of 2^[`UNIT_BITS`].
#[inline]
fn bucket_of(units: u64) -> usize {
    let highest_bit = (units | 1).ilog2();
    let shift = highest_bit.saturating_sub(PARTS_BITS);
    let at = u64::from(shift) * PARTS + (units >> shift);
    (at as usize).min(BUCKETS - 1)
}

/// The first value, in units, above those of a bucket.
fn end_of(bucket: usize) -> u64 {
    let next = bucket as u64 + 1;
    if next < 2 * PARTS {
        return next;
    }
    let shift = next / PARTS - 1;
    (PARTS + next % PARTS) << shift
}

/// The upper bound of a bucket of times, nanoseconds, exclusive. `bucket` is below [`BUCKETS`].
#[must_use]
pub fn upper_bound_ns(bucket: usize) -> u64 {
    end_of(bucket) << UNIT_BITS
}

/// The buckets of a histogram, whatever their unit.
#[derive(Debug)]
struct Buckets([Count; BUCKETS]);

impl Default for Buckets {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Count::default()))
    }
}

impl Buckets {
    #[inline]
    fn record(&self, units: u64, times: u64) {
        self.0[bucket_of(units)].add(times);
    }

    fn counts(&self) -> Vec<u64> {
        self.0.iter().map(Count::get).collect()
    }
}

/// How long something took, how often.
#[derive(Debug, Default)]
pub struct LatencyHistogram {
    buckets: Buckets,
    /// In units of 64 ns: 2 million deliveries a second of 50 ms each fill 64 bits of it in 136 days, not in two.
    sum_units: Count,
}

impl LatencyHistogram {
    /// Counts `times` occurrences of one duration; only the owning thread may call it.
    #[inline]
    pub fn record(&self, duration: Duration, times: u64) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets.record(ns >> UNIT_BITS, times);
        self.sum_units.add(ns.saturating_mul(times) >> UNIT_BITS);
    }

    /// Counts per bucket, not cumulative; see [`upper_bound_ns`].
    #[must_use]
    pub fn counts(&self) -> Vec<u64> {
        self.buckets.counts()
    }

    /// Sum of all durations, seconds.
    #[must_use]
    pub fn sum_seconds(&self) -> f64 {
        self.sum_units.get() as f64 * (1_u64 << UNIT_BITS) as f64 / 1e9
    }
}

/// A stage of a message's life, in its order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LatencyStage {
    /// A frame's bytes to a command, on the shard that received it.
    Decode,
    /// From one shard's lane to the receiving shard.
    CrossCore,
    /// At the I/O shard, from the owner's hand-over until its statement begins.
    CommitQueue,
    /// The statement that makes it durable, once per mutation in it.
    Commit,
    /// Putting one event into the queues of one shard's subscribers, or of one slice of them.
    FanOut,
    /// A send, from hand-over to the kernel until it is done.
    SocketWrite,
    /// End to end: from a message's bytes to its ack in the sender's queue.
    Ack,
    /// End to end: from a message's bytes to its event in a subscriber's queue, once per subscriber.
    Delivery,
}

impl LatencyStage {
    /// Every stage, in index order.
    pub const ALL: [Self; 8] = [
        Self::Decode,
        Self::CrossCore,
        Self::CommitQueue,
        Self::Commit,
        Self::FanOut,
        Self::SocketWrite,
        Self::Ack,
        Self::Delivery,
    ];

    /// As the label of a metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::CrossCore => "cross_core",
            Self::CommitQueue => "commit_queue",
            Self::Commit => "commit",
            Self::FanOut => "fan_out",
            Self::SocketWrite => "socket_write",
            Self::Ack => "ack",
            Self::Delivery => "delivery",
        }
    }
}

/// The histograms of one thread, one per stage. Those that it never takes part in stay empty.
#[derive(Debug, Default)]
pub struct StageLatencies([Arc<LatencyHistogram>; LatencyStage::ALL.len()]);

impl StageLatencies {
    /// Counts `times` occurrences; only the owning thread may call it.
    #[inline]
    pub fn record(&self, stage: LatencyStage, duration: Duration, times: u64) {
        self.0[stage as usize].record(duration, times);
    }

    /// The histogram of a stage.
    #[must_use]
    pub fn of(&self, stage: LatencyStage) -> &Arc<LatencyHistogram> {
        &self.0[stage as usize]
    }
}

/// How large something was, how often: the same buckets without a unit.
#[derive(Debug, Default)]
pub struct SizeHistogram {
    buckets: Buckets,
    sum: Count,
}

impl SizeHistogram {
    /// Counts one occurrence; only the owning thread may call it.
    pub fn record(&self, size: u64) {
        self.buckets.record(size, 1);
        self.sum.add(size);
    }

    /// Counts per bucket, not cumulative; see [`Self::largest_in`].
    #[must_use]
    pub fn counts(&self) -> Vec<u64> {
        self.buckets.counts()
    }

    /// The largest size that a bucket holds.
    #[must_use]
    pub fn largest_in(bucket: usize) -> u64 {
        end_of(bucket) - 1
    }

    /// Sum of all sizes.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum.get()
    }
}

/// A queue's length and the age of what has waited longest in it. The time is kept as a moment, so that a reader sees
/// the age grow even while the writer is idle.
#[derive(Debug)]
pub struct QueueGauge {
    base: Instant,
    length: Count,
    /// Milliseconds since `base`, plus [`BEFORE_BASE_MS`]: the oldest entry may be older than the gauge.
    oldest_since_ms: Count,
}

/// A day.
const BEFORE_BASE_MS: u64 = 86_400_000;

impl Default for QueueGauge {
    fn default() -> Self {
        Self { base: Instant::now(), length: Count::default(), oldest_since_ms: Count::default() }
    }
}

impl QueueGauge {
    /// What waits now, and for how long the oldest has; only the owning thread may call it.
    pub fn set(&self, length: usize, oldest: Duration) {
        self.length.set(length as u64);
        let now_ms = self.base.elapsed().as_millis() as u64 + BEFORE_BASE_MS;
        self.oldest_since_ms.set(now_ms.saturating_sub(oldest.as_millis() as u64));
    }

    /// Entries.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length.get()
    }

    /// How long the oldest entry has waited; zero when there is none.
    #[must_use]
    pub fn oldest(&self) -> Duration {
        if self.length.get() == 0 {
            return Duration::ZERO;
        }
        let now_ms = self.base.elapsed().as_millis() as u64 + BEFORE_BASE_MS;
        Duration::from_millis(now_ms.saturating_sub(self.oldest_since_ms.get()))
    }
}

/// Writing connections for what belongs to a conversation. The second one works when that pays (`storage/batcher`).
pub const CONVERSATION_COMMITTERS: usize = 2;
/// All writing connections of the I/O shard: the last one creates conversations, and does what belongs to none.
pub const COMMITTERS: usize = CONVERSATION_COMMITTERS + 1;

/// A queue of mutations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitQueue {
    /// For the committers of what belongs to a conversation.
    Conversations,
    /// For the committer that creates conversations.
    Others,
}

impl CommitQueue {
    /// Every queue, in index order.
    pub const ALL: [Self; 2] = [Self::Conversations, Self::Others];

    /// The queue of a mutation, which has a conversation or not.
    #[must_use]
    pub fn of(has_conversation: bool) -> Self {
        if has_conversation { Self::Conversations } else { Self::Others }
    }
}

/// The queues of the I/O shard.
#[derive(Debug, Default)]
pub struct StorageQueues {
    /// Reads, in the order of `mesh::read_class::ReadClass`.
    pub reads: [QueueGauge; 4],
    /// Mutations that no statement has taken yet, by [`CommitQueue`].
    pub commits: [QueueGauge; CommitQueue::ALL.len()],
}

/// How far the search index is behind the messages.
#[derive(Debug, Default)]
pub struct SearchProgress {
    /// Conversations that are behind, and how old the oldest message is that is not indexed, as far as is known.
    pub behind: QueueGauge,
    /// Messages that PostgreSQL could not index.
    pub passed_over: Count,
}

/// What the I/O shard records; its committers share one thread.
#[derive(Debug, Default)]
pub struct StorageLatencies {
    /// What the queue contains.
    pub queues: StorageQueues,
    /// The search index.
    pub search: SearchProgress,
    /// [`LatencyStage::CommitQueue`] and [`LatencyStage::Commit`], per mutation.
    pub stages: StageLatencies,
    /// Duration of each statement that committed.
    pub commits: LatencyHistogram,
    /// Mutations in each of them.
    pub batch_sizes: SizeHistogram,
    /// How messages were committed.
    pub forms: CommitForms,
    /// Why statements began.
    pub reasons: RunReasons,
}

/// Why a statement began when it did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunReason {
    /// Nothing was being committed.
    Idle,
    /// The one before had ended, and this had gathered meanwhile.
    Gathered,
    /// So much waited, or for so long, that a second one began beside the first.
    Second,
    /// It is as large as a statement may be.
    Full,
}

impl RunReason {
    /// Every reason, in index order.
    pub const ALL: [Self; 4] = [Self::Idle, Self::Gathered, Self::Second, Self::Full];

    /// As the label of a metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Gathered => "gathered",
            Self::Second => "second",
            Self::Full => "full",
        }
    }
}

/// Statements by the reason for which they began.
#[derive(Debug, Default)]
pub struct RunReasons([Count; RunReason::ALL.len()]);

impl RunReasons {
    /// Counts one; only the owning thread may call it.
    pub fn add(&self, reason: RunReason) {
        self.0[reason as usize].add(1);
    }

    /// How many there were.
    #[must_use]
    pub fn of(&self, reason: RunReason) -> u64 {
        self.0[reason as usize].get()
    }
}

/// How a message was committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitForm {
    /// By `commit_known`, in which nothing but two numbers is checked for it.
    Known,
    /// By `commit_messages`, which looks up everything.
    General,
    /// By `commit_known` in vain, so it counts as general once more. A conversation that several nodes write to has
    /// many of these.
    Repeated,
}

impl CommitForm {
    /// Every form, in index order.
    pub const ALL: [Self; 3] = [Self::Known, Self::General, Self::Repeated];

    /// As the label of a metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::General => "general",
            Self::Repeated => "repeated",
        }
    }
}

/// Messages by the form of their commit.
#[derive(Debug, Default)]
pub struct CommitForms([Count; CommitForm::ALL.len()]);

impl CommitForms {
    /// Counts messages; only the owning thread may call it.
    pub fn add(&self, form: CommitForm, messages: usize) {
        self.0[form as usize].add(messages as u64);
    }

    /// How many there were.
    #[must_use]
    pub fn of(&self, form: CommitForm) -> u64 {
        self.0[form as usize].get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_meet_without_gap_or_overlap() {
        let mut start = 0;
        for bucket in 0..BUCKETS - 1 {
            let end = end_of(bucket);
            assert!(end > start, "bucket {bucket}");
            assert_eq!((bucket_of(start), bucket_of(end - 1)), (bucket, bucket));
            start = end;
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert!(upper_bound_ns(BUCKETS - 2) > 60_000_000_000, "a minute has its own bucket");
    }

    proptest! {
        #[test]
        fn records_values_with_a_bounded_relative_error(ns in 1u64..60_000_000_000) {
            let histogram = LatencyHistogram::default();
            histogram.record(Duration::from_nanos(ns), 3);
            let at = histogram.counts().iter().position(|count| *count == 3).unwrap();
            let bound = upper_bound_ns(at);
            prop_assert!(bound > ns && bound - ns <= (ns / PARTS).max(1 << UNIT_BITS) + (1 << UNIT_BITS));
            prop_assert!((histogram.sum_seconds() - 3.0 * ns as f64 / 1e9).abs() <= 64e-9 + 1e-12 * ns as f64);
        }
    }

    #[test]
    fn sizes_up_to_thirty_one_are_exact() {
        let sizes = SizeHistogram::default();
        for size in 1..32 {
            sizes.record(size);
            assert_eq!(sizes.counts().iter().rposition(|count| *count > 0).map(SizeHistogram::largest_in), Some(size));
        }
        assert_eq!(sizes.sum(), 496);
    }
}
