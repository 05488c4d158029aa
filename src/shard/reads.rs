//! Reads that commands ask for: their budget, their bound per user, and refusals that do not feed a flood.
//!
//! A client that asks too much and asks again at once would keep its shard busy with refusals alone. So a read that is
//! refused for its user's own sake keeps its slot among the connection's commands for a moment and is answered then:
//! what one connection can have refused in a second is bounded by what it may have in flight.

use super::Shard;
use super::pending::{Asked, Origin};
use super::send::Budget;
use crate::chat::budget::Rate;
use crate::error::Refusal;
use crate::ids::UserId;
use crate::limits::{
    Limits, PAGES_IN_FLIGHT_PER_SHARD, READ_REFUSAL_PAUSE_MS, READS_BURST_PART, READS_IN_FLIGHT_PER_SHARD,
    READS_PER_MESSAGE, READS_PER_MINUTE_MIN, READS_PER_USER_MAX,
};
use crate::mesh::frame::Query;
use std::time::Duration;

/// Ticks over which refusals that came at once are spread.
const TICKS_PER_PAUSE: usize = (READ_REFUSAL_PAUSE_MS / 100) as usize;

/// A refusal that is due later.
pub(super) struct LateRefusal {
    due_ms: u64,
    asked: Asked,
    refusal: Refusal,
}

/// Reads that a user may make in a minute.
pub(super) fn per_minute(limits: &Limits) -> u32 {
    limits.max_messages_per_minute.saturating_mul(READS_PER_MESSAGE).max(READS_PER_MINUTE_MIN)
}

pub(super) fn rate(limits: &Limits) -> Rate {
    Rate::per_minute(per_minute(limits)).with_burst_part(READS_BURST_PART)
}

impl Shard {
    /// Takes what a command asks to see from its user's budget.
    pub(super) fn may_read(&mut self, asked: &Asked, user: UserId, query: &Query) -> Result<(), Refusal> {
        self.take_budget(asked, user, Budget::Reads, query.cost())
    }

    /// Whether one more read may go to the I/O shard. Admissions and replays have a part of the slots to themselves.
    pub(super) fn has_room_for(&self, user: UserId, query: &Query) -> bool {
        if !query.is_commanded() {
            return self.reads_in_flight < READS_IN_FLIGHT_PER_SHARD;
        }
        let of_user = self.reads_by_user.get(&user).copied().unwrap_or(0);
        self.reads_in_flight < PAGES_IN_FLIGHT_PER_SHARD && of_user < READS_PER_USER_MAX
    }

    /// A read came back.
    pub(super) fn read_answered(&mut self, user: UserId, commanded: bool) {
        self.reads_in_flight -= 1;
        if !commanded {
            return;
        }
        if let Some(of_user) = self.reads_by_user.get_mut(&user) {
            *of_user -= 1;
            if *of_user == 0 {
                self.reads_by_user.remove(&user);
            }
        }
    }

    /// Refuses a command that asked too much, a little later when it came over a WebSocket.
    pub(super) fn refuse_later(&mut self, asked: Asked, refusal: Refusal) {
        match asked.origin {
            Origin::Connection(_) => {
                let due_ms = self.now_ms + READ_REFUSAL_PAUSE_MS;
                self.late_refusals.push_back(LateRefusal { due_ms, asked, refusal });
            }
            Origin::Http(_) => self.refuse(asked, &refusal, true),
        }
    }

    /// Sends what is due, an even part of it with each tick: a flood's refusals must not hold the shard up at once.
    pub(super) fn send_late_refusals(&mut self) {
        for _ in 0..self.late_refusals.len().div_ceil(TICKS_PER_PAUSE) {
            if self.late_refusals.front().is_none_or(|late| late.due_ms > self.now_ms) {
                return;
            }
            let Some(late) = self.late_refusals.pop_front() else { return };
            self.refuse(late.asked, &late.refusal, true);
        }
    }

    /// Shows the queue of admissions to the metrics.
    pub(super) fn show_admissions(&self) {
        let oldest =
            self.admissions_waiting.front().map_or(Duration::ZERO, |(since, _)| self.now.duration_since(*since));
        self.counters.admissions.set(self.admissions_waiting.len(), oldest);
    }
}
