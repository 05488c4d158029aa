//! Reads that commands ask for: their budget, and refusals that do not feed a flood.
//!
//! A client that exceeds its limit and retries at once would keep its shard busy with refusals. So a read that is
//! refused for its user's own sake keeps its command slot for a moment and is answered then. What one connection can
//! have refused in a second is bounded by its slots.

use super::Shard;
use super::rate_limits::Budget;
use super::requests::{LateRefusal, Origin, PendingCommand};
use super::world::World;
use crate::error::Refusal;
use crate::ids::UserId;
use crate::limits::{FLOODING_COMMANDS, READ_REFUSAL_PAUSES_MS};
use crate::mesh::frame::Query;

/// Between two calls of `send_late_refusals`.
const TICK_MS: u64 = 100;

impl<W: World> Shard<W> {
    /// Charges a command's read to its user's budget.
    pub(super) fn may_read(&mut self, asked: &PendingCommand, user: UserId, query: &Query) -> Result<(), Refusal> {
        self.spend(asked, user, Budget::Reads, query.cost().max(asked.kib))
    }

    /// Refuses a command that exceeds the rate limit. Over a WebSocket, the refusal is delayed a little. A slot and a
    /// delay are the price of a short frame only: the others are charged, too.
    pub(super) fn refuse_later(&mut self, asked: PendingCommand, refusal: Refusal) {
        let Origin::Connection(conn) = asked.origin else { return self.refuse(asked, &refusal) };
        let in_flight = self.connections.session(conn).map_or(0, |session| session.in_flight);
        let which = usize::from(in_flight > FLOODING_COMMANDS);
        let due_ms = self.now_ms + READ_REFUSAL_PAUSES_MS[which];
        let kib = asked.kib;
        self.requests.late_refusals[which].push_back(LateRefusal { due_ms, asked, refusal });
        if kib > 1 {
            self.charge_excess(conn, kib);
        }
    }

    /// Sends the refusals that are due, an even part of them with each tick: a flood's refusals must not hold the shard
    /// up at once. A shutdown does not wait for them.
    pub(super) fn send_late_refusals(&mut self) {
        for (which, pause_ms) in READ_REFUSAL_PAUSES_MS.into_iter().enumerate() {
            let waiting = self.requests.late_refusals[which].len();
            let (most, until_ms) = match self.shutdown {
                Some(_) => (waiting, u64::MAX),
                None => (waiting.div_ceil((pause_ms / TICK_MS) as usize), self.now_ms),
            };
            for _ in 0..most {
                let Some(late) = self.requests.late_refusals[which].pop_front_if(|late| late.due_ms <= until_ms) else {
                    break;
                };
                self.answer_refusal(late.asked, &late.refusal); // its slot and its delay were the price
            }
        }
    }
}
