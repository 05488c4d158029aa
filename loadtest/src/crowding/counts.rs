//! What a flood sent and what became of it, counted while it runs.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often a flood looks whether it is over.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// The result of a flood.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked {
    /// Requests on which the server worked, whatever it answered.
    pub(super) answered: u64,
    /// Requests that a limit of the server refused.
    pub(super) refused: u64,
    /// Connections that the server refused or ended before the flood did, and why one of them.
    pub(super) lost: u64,
    pub(super) why: Option<String>,
}

/// The counts of a flood that is under way.
#[derive(Default)]
pub(super) struct Counts {
    over: AtomicBool,
    answered: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
    why: Mutex<Option<String>>,
}

impl Counts {
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Waits for the end.
    pub(super) async fn over(&self) {
        while !self.is_over() {
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(super) fn answered(&self, requests: u64) {
        self.answered.fetch_add(requests, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, requests: u64) {
        self.refused.fetch_add(requests, Ordering::Relaxed);
    }

    pub(super) fn lost(&self, reason: String) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
    }

    pub(super) fn asked(&self) -> Asked {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Asked {
            answered: count(&self.answered),
            refused: count(&self.refused),
            lost: count(&self.lost),
            why: self.why.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
