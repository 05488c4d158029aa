//! A whole history: the wild part, the healing, what must hold then, and what is tried once it has settled.

use crate::Violation;
use crate::history::{History, Stage};

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
        history.verdicts.first().map_or(Ok(()), |what| Err(Violation { seed, what }))
    }
}
