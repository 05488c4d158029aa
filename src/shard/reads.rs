//! Reads that commands ask for: their budget, and refusals that do not feed a flood.
//!
//! A client that exceeds its limit and retries at once would keep its shard busy with refusals. So a read that is
//! refused for its user's own sake keeps its command slot for a moment and is answered then. What one connection can
//! have refused in a second is bounded by its slots.

use super::Shard;
use super::requests::{LateRefusal, Origin, PendingCommand};
use super::send::Budget;
use super::world::World;
use crate::error::Refusal;
use crate::ids::UserId;
use crate::limits::READ_REFUSAL_PAUSE_MS;
use crate::mesh::frame::Query;
use std::time::Duration;

/// Ticks over which simultaneous refusals are spread.
const TICKS_PER_PAUSE: usize = (READ_REFUSAL_PAUSE_MS / 100) as usize;

impl<W: World> Shard<W> {
    /// Charges a command's read to its user's budget.
    pub(super) fn may_read(&mut self, asked: &PendingCommand, user: UserId, query: &Query) -> Result<(), Refusal> {
        self.spend(asked, user, Budget::Reads, query.cost())
    }

    /// Refuses a command that exceeds the rate limit. Over a WebSocket, the refusal is delayed a little.
    pub(super) fn refuse_later(&mut self, asked: PendingCommand, refusal: Refusal) {
        match asked.origin {
            Origin::Connection(_) => {
                let due_ms = self.now_ms + READ_REFUSAL_PAUSE_MS;
                self.requests.late_refusals.push_back(LateRefusal { due_ms, asked, refusal });
            }
            Origin::Http(_) => self.refuse(asked, &refusal),
        }
    }

    /// Sends the refusals that are due, an even part of them with each tick: a flood's refusals must not hold the shard
    /// up at once.
    pub(super) fn send_late_refusals(&mut self) {
        for _ in 0..self.requests.late_refusals.len().div_ceil(TICKS_PER_PAUSE) {
            if self.requests.late_refusals.front().is_none_or(|late| late.due_ms > self.now_ms) {
                return;
            }
            let Some(late) = self.requests.late_refusals.pop_front() else { return };
            self.refuse(late.asked, &late.refusal);
        }
    }

    /// Shows the queue of admissions to the metrics.
    pub(super) fn show_admissions(&self) {
        let oldest = self.requests.oldest_admission().map_or(Duration::ZERO, |since| self.now.duration_since(since));
        self.counters.admissions.set(self.requests.admissions_waiting(), oldest);
    }
}
