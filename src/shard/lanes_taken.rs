//! How long the lanes to a shard have not moved: what the metrics show as their age.

/// When the shard last took an item from each lane, or found it empty, in milliseconds of the process's clock.
pub(super) struct LanesTaken {
    /// By the shard that they come from.
    pub(super) requests: Vec<u64>,
    pub(super) deliveries: Vec<u64>,
    pub(super) outcomes: u64,
    pub(super) results: u64,
    pub(super) control: u64,
    /// The last tick at which it was empty.
    pub(super) http: u64,
    /// The last tick at which it was empty.
    pub(super) to_nodes: u64,
    pub(super) from_nodes: u64,
}

impl LanesTaken {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            requests: vec![0; shards],
            deliveries: vec![0; shards],
            outcomes: 0,
            results: 0,
            control: 0,
            http: 0,
            to_nodes: 0,
            from_nodes: 0,
        }
    }
}
