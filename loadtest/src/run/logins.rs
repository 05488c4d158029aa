//! Log-ins over HTTP at a requested rate: what a password hash costs, and how long users wait for it.

use super::gauge::Gauge;
use super::interrupts::Interrupts;
use super::outcome::{Outcome, rfc3339};
use crate::engine::recorder::{Findings, Tally, histogram, microseconds};
use crate::measure::process::Work;
use crate::options::RunOptions;
use crate::progress;
use crate::result::{Latency, RESULT_VERSION, RunCounts, RunResult, SystemUnderTest, Window};
use crate::scenario::Scenario;
use crate::setup::account::SignIn;
use crate::setup::api::Api;
use crate::violations::ViolationKind;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Runs the log-ins. Latency counts from the planned time if there is a rate, otherwise from the actual one.
pub(super) fn storm(
    scenario: &Scenario,
    api: &Api,
    sign_in: &SignIn,
    runtime: &Runtime,
    interrupts: &Interrupts,
    options: &RunOptions,
) -> Result<Outcome, String> {
    runtime.block_on(async {
        let Some(logins) = &scenario.logins else { return Err("no [logins] in the scenario".to_owned()) };
        let mut gauge = Gauge::new(api.target().resolve()?, None);
        gauge.connected(Some(api), 0).await;
        gauge.begin();
        let began = SystemTime::now();
        let start = Instant::now();
        let end = start + scenario.load.duration;
        let permits = Arc::new(Semaphore::new(logins.concurrency as usize));
        let bar = progress::run_bar(options.output.quiet, scenario.load.duration.as_millis() as u64);
        let mut under_way: JoinSet<Result<Duration, String>> = JoinSet::new();
        let mut latency = histogram()?;
        let mut findings = Findings::default();
        let mut tally = Tally::default();
        let mut take =
            |finished: Result<Result<Duration, String>, tokio::task::JoinError>, tally: &mut Tally| match finished {
                Ok(Ok(took)) => {
                    tally.other_commands += 1;
                    latency.saturating_record(microseconds(took.as_nanos() as u64));
                }
                Ok(Err(reason)) => {
                    findings.error("login_failed");
                    findings.violations.note(ViolationKind::LoginFailed, || reason);
                }
                Err(panic) => findings.violations.note(ViolationKind::LoginFailed, || panic.to_string()),
            };
        let mut number = 0_u32;
        loop {
            let planned = if logins.rate > 0.0 {
                start + Duration::from_secs_f64(f64::from(number) / logins.rate)
            } else {
                Instant::now()
            };
            if planned >= end || interrupts.count() > 0 {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep_until(planned) => {}
                () = interrupts.first() => break,
            }
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { break };
            let planned = if logins.rate > 0.0 { planned } else { Instant::now() };
            let (api, sign_in, user) = (api.clone(), sign_in.clone(), number % scenario.population.users);
            under_way.spawn(async move {
                let outcome = sign_in.login(&api, sign_in.username(user)).await;
                drop(permit);
                outcome.map(|_| planned.elapsed())
            });
            number += 1;
            while let Some(finished) = under_way.try_join_next() {
                take(finished, &mut tally);
            }
            bar.set_position(start.elapsed().as_millis() as u64);
            bar.set_message(format!("{} log-ins", tally.other_commands));
        }
        while let Some(finished) = under_way.try_join_next() {
            take(finished, &mut tally);
        }
        // Rate and CPU cover the same time. Log-ins that end later count as done, but in neither figure.
        let window = Window { other_commands: tally.other_commands, ..Window::default() };
        let seconds = start.elapsed().as_secs_f64();
        gauge.sample();
        let last = async {
            while let Some(finished) = under_way.join_next().await {
                take(finished, &mut tally);
            }
        };
        tokio::select! {
            () = last => {}
            () = tokio::time::sleep(scenario.load.drain) => {}
            () = interrupts.reached(2) => {}
        }
        let waiting = under_way.len() as u64;
        // After a second Ctrl-C nothing waits, so unanswered log-ins are no violation.
        if interrupts.count() < 2 {
            let seconds = scenario.load.drain.as_secs_f64();
            findings.violations.note_many(ViolationKind::Unanswered, waiting, || {
                format!("{waiting} log-ins without an answer {seconds} s after the last one was sent")
            });
        }
        bar.finish_and_clear();
        let rate = window.other_commands as f64 / seconds.max(0.001);
        let result = RunResult {
            version: RESULT_VERSION,
            system: SystemUnderTest {
                name: "Veza Chat Server".to_owned(),
                durability: "fsync".to_owned(),
                ..SystemUnderTest::default()
            },
            started_at: rfc3339(began),
            seconds,
            interrupted: interrupts.count() > 0,
            counts: RunCounts {
                users: u64::from(scenario.population.users),
                other_commands: tally.other_commands,
                unsent: u64::from(number) - tally.other_commands,
                ..RunCounts::default()
            },
            sending: Some(window),
            operations: [("login".to_owned(), Latency::of(&latency).map_err(|error| error.to_string())?)].into(),
            usage: gauge.usage(Work::default()),
            violations: findings.violations,
            errors: findings.errors,
            notes: vec![format!("{rate:.1} log-ins a second")],
            ..RunResult::default()
        };
        Ok(Outcome { result, seconds: Vec::new(), began })
    })
}
