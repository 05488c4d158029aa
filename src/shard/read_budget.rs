//! A user's rate limit for reads. Pure.

use crate::chat::budget::Rate;
use crate::limits::{Limits, READS_BURST_PART, READS_PER_MESSAGE, READS_PER_MINUTE_MIN};

/// Reads that a user may make in a minute.
pub(super) fn per_minute(limits: &Limits) -> u32 {
    limits.max_messages_per_minute.saturating_mul(READS_PER_MESSAGE).max(READS_PER_MINUTE_MIN)
}

/// The same as a rate; with a burst of a part of a minute's reads.
pub(super) fn rate(limits: &Limits) -> Rate {
    Rate::per_minute(per_minute(limits)).with_burst_part(READS_BURST_PART)
}
