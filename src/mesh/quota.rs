//! How many things each key may have at the same time, such as the open WebSockets of each client network. The shards
//! and the control plane share one.
//!
//! Invariants:
//! - a key has at most the maximum, wherever in the process its things are;
//! - a place is freed when its thing ends, however that happens. A key without any has no entry, so the map has at most
//!   as many entries as there are things;
//! - the lock is held for one look-up, when a thing begins and when it ends. Nothing waits for it in between.

use crate::error::Refusal;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The counts; cloning shares them.
#[derive(Debug)]
pub struct Quota<K>(Arc<QuotaState<K>>);

#[derive(Debug)]
struct QuotaState<K> {
    max: usize,
    used: Mutex<HashMap<K, usize>>,
}

impl<K> Clone for Quota<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// What is said when a key has as many as it may have.
#[derive(Clone, Copy, Debug)]
pub struct QuotaRefusal {
    /// The name of the limit.
    pub limiter: &'static str,
    /// What a key is: `user`, `address`.
    pub scope: &'static str,
    /// What is wrong and what to do.
    pub detail: &'static str,
    /// When to try again, in milliseconds.
    pub retry_ms: u64,
}

/// One counted thing.
#[derive(Debug)]
pub struct QuotaPlace<K: Copy + Eq + Hash> {
    quota: Quota<K>,
    key: K,
}

impl<K: Copy + Eq + Hash> Quota<K> {
    /// So many for each key.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self(Arc::new(QuotaState { max, used: Mutex::default() }))
    }

    /// Counts one more; `None` if the key has as many as it may have.
    #[must_use]
    pub fn admit(&self, key: K) -> Option<QuotaPlace<K>> {
        let mut used = self.used();
        if used.get(&key).copied().unwrap_or(0) >= self.0.max {
            return None;
        }
        *used.entry(key).or_default() += 1;
        Some(QuotaPlace { quota: self.clone(), key })
    }

    /// The keys that have as many as they may have.
    #[must_use]
    pub fn full(&self) -> Vec<K> {
        self.used().iter().filter(|(_, used)| **used >= self.0.max).map(|(key, _)| *key).collect()
    }

    /// Counts one more.
    ///
    /// # Errors
    /// `rate_limited` if the key has as many as it may have.
    pub fn admit_or(&self, key: K, refusal: &QuotaRefusal) -> Result<QuotaPlace<K>, Refusal> {
        let QuotaRefusal { limiter, scope, detail, retry_ms } = *refusal;
        let limited = || Refusal::rate_limited(detail, limiter, scope, self.0.max as u64, 0).retry_after(retry_ms);
        self.admit(key).ok_or_else(limited)
    }

    /// Whether nothing is counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used().is_empty()
    }

    fn used(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Copy + Eq + Hash> Drop for QuotaPlace<K> {
    fn drop(&mut self) {
        let mut used = self.quota.used();
        if let Some(count) = used.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                used.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_each_key_and_frees_places() {
        let quota = Quota::new(2);
        let shared = quota.clone();
        let mut places = vec![quota.admit('a').unwrap(), shared.admit('a').unwrap()];
        assert!(quota.admit('a').is_none() && shared.admit('a').is_none());
        assert!(quota.admit('b').is_some(), "others are not affected");
        places.pop();
        places.push(quota.admit('a').unwrap());
        assert!(quota.admit('a').is_none());
        drop(places);
        assert!(quota.is_empty());
        assert!(Quota::new(0).admit('a').is_none());
    }
}
