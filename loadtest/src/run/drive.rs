//! Drives the engine through a run: connect, load or loads, drain, end.

use super::collect::Collected;
use super::gauge::Gauge;
use super::interrupts::Interrupts;
use crate::engine::schedule::Pace;
use crate::engine::{ENDING_MAX, Engine, EngineOptions, WorkerReport};
use crate::progress;
use crate::protocol::System;
use crate::result::{Saturation, SaturationStep};
use crate::scenario::{Mode, Saturate, Scenario};
use crate::setup::api::Api;
use crate::violations::Violations;
use indicatif::ProgressBar;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::Runtime;

/// From the last connection to the first planned send.
const HEAD_START: Duration = Duration::from_millis(100);
/// Longest wait for an event before other work.
const PATIENCE: Duration = Duration::from_millis(20);
/// A step is sustained when at least this share of the planned messages was acknowledged.
const HELD_SHARE: f64 = 0.95;
/// Threads report a second a little after its end.
const HAND_IN: Duration = Duration::from_secs(3);
const SECOND_NS: u64 = 1_000_000_000;

/// The first second of the run that begins at `earliest_ns` or later.
fn first_second(start_ns: u64, earliest_ns: u64) -> u32 {
    u32::try_from(earliest_ns.saturating_sub(start_ns).div_ceil(SECOND_NS)).unwrap_or(u32::MAX)
}

/// What a run needs.
pub(super) struct Drive<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) options: Arc<EngineOptions>,
    pub(super) quiet: bool,
    pub(super) runtime: &'a Runtime,
    pub(super) interrupts: &'a Interrupts,
}

/// Its result.
pub(super) struct Driven {
    pub(super) options: Arc<EngineOptions>,
    pub(super) collected: Collected,
    pub(super) violations: Violations,
    pub(super) began: SystemTime,
    pub(super) sent_for: Duration,
    pub(super) interrupted: bool,
    pub(super) saturation: Option<Saturation>,
}

/// A running load.
struct RunningLoad<'a, F> {
    engine: Engine,
    collected: Collected,
    gauge: Gauge,
    threads: usize,
    ready: usize,
    done: usize,
    runtime: &'a Runtime,
    renew: F,
    sampled: u32,
}

impl Drive<'_> {
    pub(super) fn run<Y, F, R>(
        self,
        system: &Arc<Y>,
        gauge: Gauge,
        api: Option<&Api>,
        renew: F,
    ) -> Result<(Driven, Gauge), String>
    where
        Y: System,
        F: Fn(u32) -> R,
        R: Future<Output = ()> + Send + 'static,
    {
        let options = &self.options;
        let search = self.scenario.load.mode == Mode::Saturate;
        let mut running = RunningLoad {
            engine: Engine::start(system, options)?,
            collected: Collected::new(options.threads, options.classes, search)?,
            gauge,
            threads: options.threads,
            ready: 0,
            done: 0,
            runtime: self.runtime,
            renew,
            sampled: 0,
        };
        self.connect(&mut running)?;
        self.runtime.block_on(running.gauge.connected(api, options.seats.len()));

        let began = SystemTime::now() + HEAD_START;
        let start_ns = running.engine.clock().now_ns() + HEAD_START.as_nanos() as u64;
        let mut saturation = None;
        if search {
            saturation = Some(self.search(&mut running, start_ns, &self.scenario.load.saturate)?);
        } else {
            self.load(&mut running, start_ns)?;
        }
        let interrupted = self.interrupts.count() > 0;
        // The threads end their figures of sending now, and the processes are sampled now, so that CPU and work cover
        // the same time.
        running.engine.drain();
        let sent_ns = running.engine.clock().now_ns().saturating_sub(start_ns);
        running.sample_at_the_end(sent_ns);
        let sent_for = Duration::from_nanos(sent_ns);
        let complete = self.drain(&mut running, system.as_ref())?;
        running.engine.finish(complete);
        let deadline = Instant::now() + ENDING_MAX;
        while running.done < options.threads && Instant::now() < deadline {
            running.step(PATIENCE)?;
        }
        if running.done < options.threads {
            return Err(format!(
                "{} of {} generator threads ended without handing in what they found; what they said is above",
                options.threads - running.done,
                options.threads
            ));
        }
        running.collected.end()?;
        let RunningLoad { engine, collected, gauge, .. } = running;
        drop(engine);
        let violations = system.finish(complete);
        let options = self.options;
        Ok((Driven { options, collected, violations, began, sent_for, interrupted, saturation }, gauge))
    }

    fn connect<F, R>(&self, running: &mut RunningLoad<'_, F>) -> Result<(), String>
    where
        F: Fn(u32) -> R,
        R: Future<Output = ()> + Send + 'static,
    {
        let seats = self.options.seats.len();
        let bar = progress::bar(self.quiet, seats as u64, "connecting");
        let mut some = false;
        while running.ready < seats {
            running.step(PATIENCE)?;
            if !some && running.ready >= seats / 3 {
                some = true;
                running.gauge.some_connected(running.ready);
            }
            bar.set_position(running.ready as u64);
            if self.interrupts.count() > 0 {
                return Err("interrupted before anything was measured".to_owned());
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// One load for the whole duration.
    fn load<F, R>(&self, running: &mut RunningLoad<'_, F>, start_ns: u64) -> Result<(), String>
    where
        F: Fn(u32) -> R,
        R: Future<Output = ()> + Send + 'static,
    {
        let load = &self.scenario.load;
        running.engine.load(Pace {
            start_ns,
            duration: load.duration,
            ramp: load.ramp,
            spacing: load.spacing,
            factor: 1.0,
            seed: load.seed,
        });
        running.begin(start_ns)?;
        let length_ms = u64::try_from(load.duration.as_millis()).unwrap_or(u64::MAX);
        let bar = progress::run_bar(self.quiet, length_ms);
        let end_ns = start_ns + load.duration.as_nanos() as u64;
        while running.step_until(end_ns)? && self.interrupts.count() == 0 {
            running.show(&bar, start_ns);
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Loads that grow until the server does not sustain one. Each begins with a full second and never in the past:
    /// overdue sends would arrive as a burst of no defined rate.
    fn search<F, R>(
        &self,
        running: &mut RunningLoad<'_, F>,
        start_ns: u64,
        search: &Saturate,
    ) -> Result<Saturation, String>
    where
        F: Fn(u32) -> R,
        R: Future<Output = ()> + Send + 'static,
    {
        let mut found = Saturation::default();
        let mut rate = search.rate_start;
        let step = Duration::from_secs(u64::from(search.step_seconds));
        let bar = progress::run_bar(self.quiet, u64::from(search.steps_max) * step.as_millis() as u64);
        for number in 0..search.steps_max {
            let earliest_ns = running.engine.clock().now_ns() + HEAD_START.as_nanos() as u64;
            let first = if number == 0 { 0 } else { first_second(start_ns, earliest_ns) };
            let begin_ns = start_ns + u64::from(first) * SECOND_NS;
            running.engine.load(Pace {
                start_ns: begin_ns,
                duration: step,
                ramp: Duration::ZERO,
                spacing: self.scenario.load.spacing,
                factor: rate,
                seed: self.scenario.load.seed ^ u64::from(number),
            });
            if number == 0 {
                running.begin(start_ns)?;
            }
            let end_ns = begin_ns + step.as_nanos() as u64;
            while running.step_until(end_ns)? && self.interrupts.count() == 0 {
                running.show(&bar, start_ns);
            }
            if self.interrupts.count() > 0 {
                "interrupted".clone_into(&mut found.broke);
                break;
            }
            // The step's last second is reported a moment after its end.
            let last = first + search.step_seconds - 1;
            let deadline = Instant::now() + HAND_IN;
            while running.collected.newest().is_none_or(|newest| newest < last) && Instant::now() < deadline {
                running.step(PATIENCE)?;
            }
            let (acked, latency) = running.collected.acks(first..last + 1)?;
            let acked_per_s = acked as f64 / step.as_secs_f64();
            let p99_us = latency.value_at_quantile(0.99);
            let enough = acked_per_s >= HELD_SHARE * rate;
            let quick = p99_us as f64 <= search.p99_limit_ms * 1000.0;
            found.steps.push(SaturationStep {
                planned_per_s: rate,
                acked_per_s,
                ack_p50_us: latency.value_at_quantile(0.5),
                ack_p99_us: p99_us,
                held: enough && quick,
            });
            if !(enough && quick) {
                found.broke = if enough {
                    format!(
                        "99 in 100 acks took up to {:.1} ms, more than {} ms",
                        p99_us as f64 / 1e3,
                        search.p99_limit_ms
                    )
                } else {
                    format!("{acked_per_s:.0} of {rate:.0} messages a second were acknowledged")
                };
                break;
            }
            found.sustained_per_s = rate;
            rate *= search.rate_factor;
        }
        bar.finish_and_clear();
        Ok(found)
    }

    /// Waits until everything has arrived or the time is over; false when Ctrl-C interrupts it.
    fn drain<F, R>(&self, running: &mut RunningLoad<'_, F>, system: &impl System) -> Result<bool, String>
    where
        F: Fn(u32) -> R,
        R: Future<Output = ()> + Send + 'static,
    {
        let before = self.interrupts.count();
        let deadline = Instant::now() + self.scenario.load.drain;
        while Instant::now() < deadline {
            running.step(PATIENCE)?;
            if running.engine.pending() == 0 && system.settled() {
                break;
            }
            if self.interrupts.count() > before.max(1) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl<F, R> RunningLoad<'_, F>
where
    F: Fn(u32) -> R,
    R: Future<Output = ()> + Send + 'static,
{
    /// Takes the next event of the threads, and waits at most until the given time; false when that has passed.
    fn step_until(&mut self, end_ns: u64) -> Result<bool, String> {
        let left = Duration::from_nanos(end_ns.saturating_sub(self.engine.clock().now_ns()));
        if left.is_zero() {
            return Ok(false);
        }
        self.step(left.min(PATIENCE))?;
        Ok(true)
    }

    /// Sending begins at the given time. CPU used before does not count.
    fn begin(&mut self, start_ns: u64) -> Result<(), String> {
        while self.step_until(start_ns)? {}
        self.gauge.begin();
        Ok(())
    }

    /// Takes the next event of the threads and waits for it at most this long.
    fn step(&mut self, mut patience: Duration) -> Result<(), String> {
        while let Some(event) = self.engine.event(patience)? {
            patience = Duration::ZERO;
            match event {
                WorkerReport::Ready => self.ready += 1,
                WorkerReport::Failed(reason) => return Err(reason),
                WorkerReport::Unauthorized(user) => drop(self.runtime.spawn((self.renew)(user))),
                WorkerReport::Interval(interval) => self.collected.add(*interval)?,
                WorkerReport::Done(findings) => {
                    self.done += 1;
                    self.collected.findings.merge(*findings)?;
                    if self.done == self.threads {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Samples the processes when another second has begun.
    fn sample(&mut self, second: u32) {
        if second > self.sampled {
            self.sample_until(second);
        }
    }

    /// Samples the processes even if no second has begun: usage ends with this sample.
    fn sample_at_the_end(&mut self, sent_ns: u64) {
        self.sample_until(u32::try_from(sent_ns.div_ceil(SECOND_NS)).unwrap_or(u32::MAX));
    }

    fn sample_until(&mut self, second: u32) {
        let cores = self.gauge.sample();
        for missed in self.sampled..second {
            self.collected.cores.insert(missed, cores);
        }
        self.sampled = second.max(self.sampled);
    }

    fn show(&mut self, bar: &ProgressBar, start_ns: u64) {
        let elapsed_ns = self.engine.clock().now_ns().saturating_sub(start_ns);
        self.sample((elapsed_ns / SECOND_NS) as u32);
        bar.set_position(elapsed_ns / 1_000_000);
        let tally = &self.collected.total.tally;
        bar.set_message(format!("sent {} acked {} delivered {}", tally.sent, tally.acked, tally.delivered));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_a_step_with_a_future_second() {
        let start_ns = 5 * SECOND_NS + 7;
        assert_eq!(first_second(start_ns, start_ns), 0);
        assert_eq!(first_second(start_ns, start_ns - SECOND_NS), 0);
        assert_eq!(first_second(start_ns, start_ns + 1), 1);
        assert_eq!(first_second(start_ns, start_ns + 5 * SECOND_NS), 5);
        assert_eq!(first_second(start_ns, start_ns + 5 * SECOND_NS + 30_000_000), 6);
    }
}
