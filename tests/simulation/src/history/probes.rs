//! What is tried once a history has settled: who is shown the presence of whom, and how much users may send.

use super::{History, Stage, TICK_MS};
use crate::Violation;
use crate::client::Client;
use crate::spending::MESSAGES_PER_MINUTE;
use chat_server::ids::UserId;
use std::collections::BTreeMap;

/// Nodes on which users send, one after the other.
const PROBED_NODES_MAX: usize = 3;
/// Messages that each device sends on each of them: more than the budget of its user.
const MESSAGES: usize = MESSAGES_PER_MINUTE as usize * 5 / 4;
/// Ticks until everything is answered and published. Nodes publish every five ticks.
const QUIET_TICKS: usize = 12;

impl Stage {
    /// Plays the history of a seed; with `trace`, prints what the clients send and receive.
    ///
    /// # Errors
    /// The first promise that was broken.
    pub fn play(&self, seed: u64, trace: bool) -> Result<(), Violation> {
        let mut history = History::new(self, seed);
        for client in &mut history.clients {
            client.is_traced = trace;
        }
        history.play();
        if history.verdicts.first().is_none() {
            history.probe_presence();
            history.probe_budgets();
        }
        self.filter_played.borrow_mut().append(&mut history.store.borrow_mut().moderation.played);
        for (what, messages) in std::mem::take(&mut history.store.borrow_mut().commits_played) {
            *self.commits_played.borrow_mut().entry(what).or_default() += messages;
        }
        history.verdicts.first().map_or(Ok(()), |what| Err(Violation { seed, what }))
    }
}

impl History<'_> {
    /// Everybody shows something new; who receives it must be who may.
    fn probe_presence(&mut self) {
        for client in &mut self.clients {
            client.presence.clear();
            client.set_presence(&mut self.network.borrow_mut(), &probe(client.user));
        }
        for _ in 0..24 {
            self.round(TICK_MS);
        }
        let store = self.store.borrow();
        let shows = |user: UserId| self.clients.iter().any(|c| c.user == user && c.shows == Some(probe(user)));
        for client in self.clients.iter().filter(|client| client.is_open()) {
            for user in client.presence.keys() {
                self.verdicts.check(store.may_see(client.user, *user), || {
                    format!("user {} receives the presence of user {}, whom they may not see", client.user.0, user.0)
                });
            }
            for user in &client.watched {
                // A departure or a block may end a watch that could stand, when the store does not confirm it in time.
                let undisturbed = !store.was_hidden(*user) && !store.was_hidden(client.user);
                let received = client.presence.contains_key(user);
                let expected = undisturbed && shows(*user);
                self.verdicts.check(received || !expected, || {
                    format!("user {} watches user {} and did not receive their presence", client.user.0, user.0)
                });
            }
        }
    }

    /// Checks what users have sent until now, if they have small budgets. Then they send on one node after the other,
    /// more than they may.
    fn probe_budgets(&mut self) {
        if !self.is_limited {
            return;
        }
        self.check_spent();
        for node in 0..self.cores.len().min(PROBED_NODES_MAX) {
            for index in 0..self.clients.len() {
                self.clients[index].close(&mut self.network.borrow_mut());
                let (socket, core) = (self.dial(index, false), (node + index) % self.cores.len());
                self.cores[core].shard.sockets_mut().accept(socket);
            }
            for _ in 0..MESSAGES {
                self.round(TICK_MS);
                for client in &mut self.clients {
                    let store = self.store.borrow();
                    // Not in the direct conversation, where a block may refuse messages.
                    let rooms = &mut self.conversations[1..].iter();
                    let room = rooms.find(|room| store.is_member(client.user, **room)).filter(|_| client.is_open());
                    if let Some(room) = room {
                        client.send_message(&mut self.network.borrow_mut(), *room, 8);
                    }
                }
                self.round(TICK_MS);
            }
        }
        for _ in 0..QUIET_TICKS {
            self.round(TICK_MS);
        }
        self.check_spent();
    }

    /// Checks what users have sent since this was done last.
    fn check_spent(&mut self) {
        let (now_ms, acked) = (self.clock.now_ms(), acked(&self.clients));
        let mut spending = self.spending.borrow_mut();
        spending.check(now_ms, &acked, &self.verdicts);
        spending.begin(now_ms, &acked);
    }
}

/// How many messages of each user were acknowledged.
fn acked(clients: &[Client]) -> BTreeMap<UserId, usize> {
    let mut acked = BTreeMap::new();
    for client in clients {
        *acked.entry(client.user).or_default() += client.acked();
    }
    acked
}

fn probe(user: UserId) -> String {
    format!("probe {}", user.0)
}
