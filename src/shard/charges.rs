//! Charges commands and frames to the budgets of their user. The budgets belong to the user, so another connection does
//! not refill them. What frames cost that no other budget pays for:
//!
//! ```text
//!   signals left ──► served        none left ──► refused with rate_limited        excess used up too ──► closed (4005)
//! ```

use super::Shard;
use super::rate_limits::Budget;
use super::requests::{Origin, PendingCommand};
use super::world::World;
use crate::error::Refusal;
use crate::ids::{ConnId, UserId};
use std::sync::Arc;

impl<W: World> Shard<W> {
    /// Charges a command that costs no change and no read.
    pub(super) fn may_signal(&mut self, asked: &PendingCommand, user: UserId) -> Result<(), Refusal> {
        self.spend(asked, user, Budget::Signals, 1)
    }

    /// Charges a command to a budget of its user.
    pub(super) fn spend(
        &mut self,
        asked: &PendingCommand,
        user: UserId,
        which: Budget,
        cost: u32,
    ) -> Result<(), Refusal> {
        let budgets = match &asked.origin {
            Origin::Connection(conn) => self.connections.session(*conn).map(|session| Arc::clone(&session.budgets)),
            // HTTP commands come to the user's shard, which keeps the budgets.
            Origin::Http(_) => Some(self.directory.users.budgets(user)),
        };
        let now_ns = self.now_ns();
        let Some(budgets) = budgets else { return Ok(()) };
        self.rate_limits.of(which).spend(&budgets[which as usize], now_ns, cost)
    }

    /// Charges a frame of a connection.
    pub(super) fn charge(&self, conn: ConnId, which: Budget) -> Result<(), Refusal> {
        let now_ns = self.now_ns();
        let Some(session) = self.connections.session(conn) else { return Ok(()) };
        self.rate_limits.of(which).spend(&session.budgets[which as usize], now_ns, 1)
    }
}
