//! `chat-server doctor`: whether this machine and the services of the configuration are as the server needs them.
//!
//! ```text
//!   machine.rs    kernel, io_uring, locked memory, open files, addresses, data_dir and its disk
//!   postgres.rs   PostgreSQL: reached, fast, new enough, durable, its logins, its migrations
//!   services.rs   Redis, clamd, the bucket
//!   clock.rs      this machine's clock and PostgreSQL's
//!   settings.rs   what the configuration alone shows: proxies, and values that are not recommended
//!   finding.rs    a finding, as text and as JSON
//! ```
//!
//! Invariants:
//! - nothing is changed. The private PostgreSQL is not started, no key is made, no migration or rule set is touched. The
//!   probe of a bucket writes an object and removes it, as a start does;
//! - the checks are those of `serve`: each probe is a function that both use. Otherwise doctor would be content where
//!   the server refuses to start;
//! - each check ends within [`TIME_MAX`], and the next one runs;
//! - no secret is printed: errors name addresses and keys of the configuration only.
//!
//! The findings come in a fixed order, as they are made.

mod clock;
mod finding;
mod machine;
mod postgres;
mod services;
mod settings;

use self::finding::{Finding, Tally};
use super::error::BootError;
use super::reach::runtime;
use crate::config::Config;
use std::io::{self, Write as _};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// The most time of one check.
const TIME_MAX: Duration = Duration::from_secs(5);
/// Threads for checks that block. One that hangs keeps its thread, and the others go on.
const BLOCKING_THREADS: usize = 8;

/// Examines the machine and the services, and prints the findings. Returns whether there is no fault. `json`: one JSON
/// object a line, instead of text.
///
/// # Errors
/// When the process cannot start a runtime.
pub fn diagnose(config: &Config, json: bool) -> Result<bool, BootError> {
    let runtime = runtime(BLOCKING_THREADS)?;
    let mut report = Report { json, tally: Tally::default() };
    runtime.block_on(examine_all(config, &mut report));
    // A disk or a name server that does not answer must not hold up the end.
    runtime.shutdown_background();
    if !json {
        print(&report.tally.to_string());
    }
    Ok(!report.tally.has_faults())
}

async fn examine_all(config: &Config, report: &mut Report) {
    machine::examine(config, report).await;
    let client = postgres::examine(config, report).await;
    services::examine(config, report).await;
    clock::examine(client.as_ref(), report).await;
    settings::examine(config, report);
}

/// Prints the findings, and counts them.
struct Report {
    json: bool,
    tally: Tally,
}

impl Report {
    fn add(&mut self, finding: &Finding) {
        self.tally.add(finding.severity);
        print(&if self.json { finding.json() } else { finding.to_string() });
    }
}

fn print(line: &str) {
    // Not println!, which panics when the reader of a pipe closes it.
    let _ = writeln!(io::stdout(), "{line}");
}

/// Runs a check. A check that takes too long is a fault.
async fn in_time(check: &'static str, advice: &str, examined: impl Future<Output = Finding>) -> Finding {
    timeout(TIME_MAX, examined).await.unwrap_or_else(|_| too_slow(check, advice))
}

fn too_slow(check: &'static str, advice: &str) -> Finding {
    Finding::fault(check, format!("no answer within {} s", TIME_MAX.as_secs()), advice)
}

/// The same for work that blocks: a disk may hang.
async fn blocking(check: &'static str, advice: &str, work: impl FnOnce() -> Finding + Send + 'static) -> Finding {
    let worked = spawn_blocking(work);
    let joined = async { worked.await.unwrap_or_else(|error| Finding::fault(check, error.to_string(), "")) };
    in_time(check, advice, joined).await
}
