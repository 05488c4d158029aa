//! How much of a shard's work the I/O shard may have at once.

use crate::limits::{COMMITS_IN_FLIGHT_PER_SHARD, READS_IN_FLIGHT_PER_SHARD, READS_PER_USER_MAX};

/// What a shard may have in flight on the I/O shard. The lanes back have room for the answers to all of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StorageRoom {
    /// Mutations. Each has up to two outcomes.
    pub commits: usize,
    /// Reads. Each has one result.
    pub reads: usize,
}

impl StorageRoom {
    /// The room of a running shard.
    pub const REAL: Self = Self { commits: COMMITS_IN_FLIGHT_PER_SHARD, reads: READS_IN_FLIGHT_PER_SHARD };

    /// The outcomes that these mutations can have.
    #[must_use]
    pub const fn outcomes(self) -> usize {
        2 * self.commits // "not known yet", and the final one
    }

    /// Reads in flight above which a shard sends only those for admissions and replays.
    #[must_use]
    pub const fn pages(self) -> usize {
        self.reads / 4 * 3
    }

    /// Reads in flight above which a shard sends none that can wait.
    #[must_use]
    pub const fn background_reads(self) -> usize {
        self.reads / 4
    }
}

const _: () = assert!(READS_PER_USER_MAX < StorageRoom::REAL.pages(), "one user cannot fill the reads");
