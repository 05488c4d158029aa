//! Shows the shard's queues to the metrics, at each tick; [`ShardQueue`] says what the figures mean.

use super::Shard;
use super::world::World;
use crate::ids::ShardId;
use crate::limits::READ_REFUSAL_PAUSES_MS;
use crate::mesh::port::Lanes as _;
use crate::mesh::shard_queue::ShardQueue;
use std::time::Duration;

/// A lane's length, and since when it has not moved.
type LaneState = (usize, u64);

impl<W: World> Shard<W> {
    pub(super) fn show_queues(&mut self) {
        self.show_lanes();
        let now_ms = self.now_ms;
        let age = |since: Option<u64>| Duration::from_millis(since.map_or(0, |since| now_ms.saturating_sub(since)));
        let queues = &self.counters.queues;
        let requests = &self.requests;
        let oldest = requests.oldest_admission().map_or(Duration::ZERO, |since| self.now.duration_since(since));
        queues.of(ShardQueue::Admissions).set(requests.admissions_waiting(), oldest);
        let waiting = &requests.replays_waiting;
        queues.of(ShardQueue::ReplaysWaiting).set(waiting.len(), age(waiting.front().map(|(since, _)| *since)));
        let failed = &requests.replays_failed;
        queues.of(ShardQueue::ReplaysDeferred).set(failed.len(), age(failed.first().map(|(since, _)| *since)));
        let late = requests.late_refusals.iter().zip(READ_REFUSAL_PAUSES_MS);
        let since = late.filter_map(|(late, pause_ms)| Some(late.front()?.due_ms - pause_ms)).min();
        let late = requests.late_refusals.iter().map(std::collections::VecDeque::len).sum();
        queues.of(ShardQueue::LateRefusals).set(late, age(since));
        let (events, oldest) = self.rooms.backlog();
        let oldest = oldest.map_or(Duration::ZERO, |since| self.now.saturating_duration_since(since));
        queues.of(ShardQueue::Backlogs).set(events, oldest);
    }

    fn show_lanes(&mut self) {
        let others: Vec<ShardId> = self.placement.all().filter(|shard| *shard != self.id).collect();
        let lanes = &self.lanes;
        let requests = others.iter().map(|from| (lanes.requests_waiting(*from), self.taken.requests[from.index()]));
        self.show_lane(ShardQueue::Requests, requests);
        let deliveries =
            others.iter().map(|from| (lanes.deliveries_waiting(*from), self.taken.deliveries[from.index()]));
        self.show_lane(ShardQueue::Deliveries, deliveries);
        let lengths = lanes.waiting();
        self.show_lane(ShardQueue::Outcomes, [(lengths.outcomes, self.taken.outcomes)]);
        self.show_lane(ShardQueue::Results, [(lengths.results, self.taken.results)]);
        self.show_lane(ShardQueue::Control, [(lengths.control, self.taken.control)]);
        if lengths.to_nodes == 0 {
            self.taken.to_nodes = self.now_ms;
        }
        self.show_lane(ShardQueue::ToNodes, [(lengths.to_nodes, self.taken.to_nodes)]);
        self.show_lane(ShardQueue::FromNodes, [(lengths.from_nodes, self.taken.from_nodes)]);
        if self.id == ShardId(0) {
            if lengths.http == 0 {
                self.taken.http = self.now_ms;
            }
            self.show_lane(ShardQueue::Http, [(lengths.http, self.taken.http)]);
        }
    }

    /// Several lanes are one queue: their lengths together, and the age of the oldest.
    fn show_lane(&self, queue: ShardQueue, lanes: impl IntoIterator<Item = LaneState>) {
        let waiting = lanes.into_iter().filter(|(length, _)| *length > 0);
        let (length, oldest_ms) = waiting.fold((0, 0), |(length, oldest_ms): (usize, u64), (more, since_ms)| {
            (length + more, oldest_ms.max(self.now_ms.saturating_sub(since_ms)))
        });
        self.counters.queues.of(queue).set(length, Duration::from_millis(oldest_ms));
    }
}
