//! When each client sends: an open loop. Pure.
//!
//! The plan does not listen to the server: a slow answer never delays the next planned send, and a send that leaves late
//! is measured from its planned time. A closed loop would send less exactly when the server stalls, and so hide the stall
//! ("coordinated omission").
//!
//! Each client has its own share of the plan, so there is no central queue that could fill. Evenly spaced shares
//! interleave into an evenly spaced whole; independent Poisson processes add up to a Poisson process of the total rate.

use clap::ValueEnum;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use std::time::Duration;

/// How sends are spaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Spacing {
    /// Independent random arrivals, as from many people.
    Poisson,
    /// At equal distances.
    Even,
}

/// What all clients' plans share.
#[derive(Clone, Copy, Debug)]
pub struct PlanOptions {
    /// Messages per second, all clients together; above 0.
    pub rate: f64,
    /// How many clients share it; above 0.
    pub clients: u32,
    /// No send is planned at or after this.
    pub duration: Duration,
    /// How they are spaced.
    pub spacing: Spacing,
    /// Same seed, same plan.
    pub seed: u64,
}

/// One client's planned send times, nanoseconds since the epoch, ascending.
#[derive(Debug)]
pub struct Plan {
    period_ns: f64,
    next_ns: f64,
    end_ns: f64,
    spacing: Spacing,
    random: SmallRng,
}

impl Plan {
    /// The plan of client number `client`.
    pub fn new(options: PlanOptions, client: u32) -> Self {
        let period_ns = 1e9 * f64::from(options.clients) / options.rate;
        let mut plan = Self {
            period_ns,
            next_ns: 0.0,
            end_ns: options.duration.as_nanos() as f64,
            spacing: options.spacing,
            random: SmallRng::seed_from_u64(options.seed ^ u64::from(client).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        };
        plan.next_ns = match options.spacing {
            Spacing::Even => period_ns * f64::from(client) / f64::from(options.clients),
            Spacing::Poisson => plan.pause_ns(),
        };
        plan
    }

    /// The next planned time; `None` when the plan is done.
    pub fn peek_ns(&self) -> Option<u64> {
        (self.next_ns < self.end_ns).then_some(self.next_ns as u64)
    }

    /// Passes to the one after.
    pub fn advance(&mut self) {
        self.next_ns += self.pause_ns();
    }

    /// How many are left that were due before `now_ns`: planned, never sent.
    pub fn skip_due(&mut self, now_ns: u64) -> u64 {
        let mut skipped = 0;
        while self.peek_ns().is_some_and(|next| next < now_ns) {
            self.advance();
            skipped += 1;
        }
        skipped
    }

    fn pause_ns(&mut self) -> f64 {
        match self.spacing {
            Spacing::Even => self.period_ns,
            // Inverse of the exponential distribution; 1 − u is in (0, 1], so the logarithm is finite.
            Spacing::Poisson => -(1.0 - self.random.random::<f64>()).ln() * self.period_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(options: PlanOptions) -> Vec<u64> {
        let mut times = Vec::new();
        for client in 0..options.clients {
            let mut plan = Plan::new(options, client);
            while let Some(next) = plan.peek_ns() {
                times.push(next);
                plan.advance();
            }
        }
        times.sort_unstable();
        times
    }

    const OPTIONS: PlanOptions =
        PlanOptions { rate: 1000.0, clients: 7, duration: Duration::from_secs(20), spacing: Spacing::Even, seed: 1 };

    #[test]
    fn even_shares_interleave_into_an_even_whole() {
        let times = times(OPTIONS);
        assert_eq!(times.len(), 20_000);
        assert!(times.windows(2).all(|pair| (pair[1] - pair[0]).abs_diff(1_000_000) <= 1000));
    }

    #[test]
    fn poisson_shares_add_up_to_the_rate_with_exponential_distances() {
        let times = times(PlanOptions { spacing: Spacing::Poisson, ..OPTIONS });
        // 20,000 ± 6 standard deviations.
        assert!(times.len().abs_diff(20_000) < 850, "{} sends", times.len());
        let short = times.windows(2).filter(|pair| pair[1] - pair[0] < 1_000_000).count();
        let share = short as f64 / times.len() as f64;
        // 1 − 1/e of the distances are below the mean.
        assert!((share - 0.632).abs() < 0.02, "{share} below the mean");
    }

    #[test]
    fn the_same_seed_gives_the_same_plan() {
        let poisson = PlanOptions { spacing: Spacing::Poisson, ..OPTIONS };
        assert_eq!(times(poisson), times(poisson));
        assert_ne!(times(poisson), times(PlanOptions { seed: 2, ..poisson }));
    }

    #[test]
    fn what_was_due_and_not_sent_is_counted() {
        let mut plan = Plan::new(PlanOptions { clients: 1, ..OPTIONS }, 0);
        assert_eq!(plan.skip_due(10_000_000), 10);
        assert_eq!(plan.peek_ns(), Some(10_000_000));
        assert_eq!(plan.skip_due(u64::MAX), 19_990);
    }
}
