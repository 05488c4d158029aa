//! When messages are sent: an open loop. Pure.
//!
//! The plan does not depend on the server. A slow answer never delays the next planned send, and the latency of a late
//! send counts from its planned time. A closed loop would send less while the server stalls and so hide the stall
//! ("coordinated omission").
//!
//! Each engine thread has its own share of the plan, so there is no central queue that could fill. Evenly spaced shares
//! interleave into an evenly spaced whole. Independent Poisson processes add up to a Poisson process of the total rate.

use clap::ValueEnum;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How sends are spaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spacing {
    /// Independent random arrivals, as from many people.
    #[default]
    Poisson,
    /// At equal distances.
    Even,
}

/// The parameters of a plan.
#[derive(Clone, Copy, Debug)]
pub struct PlanOptions {
    /// Sends per second by this plan; above 0.
    pub rate: f64,
    /// The first send of an evenly spaced plan, as a share of the distance between two; plans that run side by side
    /// interleave through it.
    pub offset: f64,
    /// How long the rate grows evenly from 0.
    pub ramp: Duration,
    /// No send is planned at or after this.
    pub duration: Duration,
    /// How they are spaced.
    pub spacing: Spacing,
    /// Same seed, same plan.
    pub seed: u64,
}

/// Planned send times, nanoseconds since the plan's beginning, ascending.
#[derive(Debug)]
pub struct Plan {
    period_ns: f64,
    /// On a clock on which the rate is constant; [`warp`](Self::warp) gives the time.
    next_ns: f64,
    ramp_ns: f64,
    end_ns: f64,
    spacing: Spacing,
    random: SmallRng,
}

impl Plan {
    /// A plan.
    pub fn new(options: PlanOptions) -> Self {
        let period_ns = 1e9 / options.rate;
        let mut plan = Self {
            period_ns,
            next_ns: 0.0,
            ramp_ns: options.ramp.as_nanos() as f64,
            end_ns: options.duration.as_nanos() as f64,
            spacing: options.spacing,
            random: SmallRng::seed_from_u64(options.seed),
        };
        plan.next_ns = match options.spacing {
            Spacing::Even => period_ns * options.offset,
            Spacing::Poisson => plan.pause_ns(),
        };
        plan
    }

    /// The next planned time; `None` when the plan is done.
    pub fn peek_ns(&self) -> Option<u64> {
        let next_ns = self.warp(self.next_ns);
        (next_ns < self.end_ns).then_some(next_ns as u64)
    }

    /// Passes to the one after.
    pub fn advance(&mut self) {
        self.next_ns += self.pause_ns();
    }

    /// A number below `count`, by the plan's own dice: which of several sends.
    pub fn choose(&mut self, count: usize) -> usize {
        self.random.random_range(0..count.max(1))
    }

    /// A growing rate is a constant one on a clock that runs late: after the time `t` of a ramp of length `r`,
    /// `t² / 2r` has passed on it.
    fn warp(&self, even_ns: f64) -> f64 {
        if even_ns < self.ramp_ns / 2.0 { (2.0 * self.ramp_ns * even_ns).sqrt() } else { even_ns + self.ramp_ns / 2.0 }
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
        let mut plan = Plan::new(options);
        let mut times = Vec::new();
        while let Some(next) = plan.peek_ns() {
            times.push(next);
            plan.advance();
        }
        times
    }

    const OPTIONS: PlanOptions = PlanOptions {
        rate: 1000.0,
        offset: 0.0,
        ramp: Duration::ZERO,
        duration: Duration::from_secs(20),
        spacing: Spacing::Even,
        seed: 1,
    };

    #[test]
    fn even_shares_interleave_into_an_even_whole() {
        let shares =
            (0..7).map(|share| PlanOptions { rate: OPTIONS.rate / 7.0, offset: f64::from(share) / 7.0, ..OPTIONS });
        let mut times: Vec<u64> = shares.flat_map(times).collect();
        times.sort_unstable();
        assert_eq!(times.len(), 20_000);
        assert!(times.windows(2).all(|pair| (pair[1] - pair[0]).abs_diff(1_000_000) <= 1000));
    }

    #[test]
    fn poisson_plans_have_the_rate_and_exponential_distances() {
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
    fn a_ramp_grows_evenly_to_the_full_rate() {
        let times = times(PlanOptions { ramp: Duration::from_secs(10), ..OPTIONS });
        // Half of the rate on average for ten seconds, all of it for ten more.
        assert_eq!(times.len(), 15_000);
        let within = |from: u64, to: u64| times.iter().filter(|at| (from..to).contains(&(**at / 1_000_000))).count();
        assert!(within(0, 1000).abs_diff(50) <= 1, "{}", within(0, 1000));
        assert!(within(9000, 10_000).abs_diff(950) <= 1, "{}", within(9000, 10_000));
        assert!(within(15_000, 16_000).abs_diff(1000) <= 1);
    }
}
