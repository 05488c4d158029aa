//! Reads that commands ask for: their budget, and refusals that do not feed a flood.
//!
//! A client that asks too much and asks again at once would keep its shard busy with refusals alone. So a read that is
//! refused for its user's own sake keeps its command slot for a moment and is answered then. What one connection can
//! have refused in a second is bounded by its slots.

use super::Shard;
use super::requests::{Asked, LateRefusal, Origin};
use super::send::Budget;
use super::world::World;
use crate::error::Refusal;
use crate::ids::UserId;
use crate::limits::READ_REFUSAL_PAUSE_MS;
use crate::mesh::frame::Query;

/// Ticks over which refusals that came at once are spread.
const TICKS_PER_PAUSE: usize = (READ_REFUSAL_PAUSE_MS / 100) as usize;

impl<W: World> Shard<W> {
    /// Takes what a command asks to see from its user's budget.
    pub(super) fn may_read(&mut self, asked: &Asked, user: UserId, query: &Query) -> Result<(), Refusal> {
        self.spend(asked, user, Budget::Reads, query.cost())
    }

    /// Refuses a command that asked too much, a little later when it came over a WebSocket.
    pub(super) fn refuse_later(&mut self, asked: Asked, refusal: Refusal) {
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
}
