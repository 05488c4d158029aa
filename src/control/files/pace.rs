//! How fast all uploads together may arrive. On a machine of its own an upload comes as fast as the cores can take it,
//! and messages would wait for a core.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What may come at once after a pause, in time at the full rate.
const BURST: Duration = Duration::from_millis(100);

/// The bytes of all uploads, in turn.
pub(super) struct Pace {
    bytes_per_s: u64,
    /// When everything that was admitted has arrived at the full rate.
    until: Mutex<Instant>,
}

impl Pace {
    /// So many bytes a second; any number with 0.
    pub(super) fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s, until: Mutex::new(Instant::now()) }
    }

    /// Waits until these bytes may count as arrived. The client waits meanwhile, by TCP's flow control.
    pub(super) async fn admit(&self, bytes: usize) {
        if let Some(at) = self.turn(bytes, Instant::now()) {
            tokio::time::sleep_until(at).await;
        }
    }

    /// When to go on.
    fn turn(&self, bytes: usize, now: Instant) -> Option<Instant> {
        if self.bytes_per_s == 0 {
            return None;
        }
        let time = Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / self.bytes_per_s);
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = (*until).max(now) + time;
        Some(*until - BURST).filter(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_uploads_together_keep_to_the_rate_after_a_burst() {
        let (pace, now) = (Pace::new(1_000_000), Instant::now() + Duration::from_secs(1));
        assert_eq!(pace.turn(60_000, now), None);
        assert_eq!(pace.turn(40_000, now), None);
        assert_eq!(pace.turn(500_000, now), Some(now + Duration::from_millis(500)));
        assert_eq!(pace.turn(1, now + Duration::from_secs(9)), None, "a pause gives no more than the burst");
        assert_eq!(Pace::new(0).turn(usize::MAX, now), None);
    }
}
