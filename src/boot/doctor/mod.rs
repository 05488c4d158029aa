//! `chat-server doctor`: whether this machine and the services of the configuration are as the server needs them.
//!
//! ```text
//!   machine.rs    kernel, io_uring, locked memory, open files, addresses, data_dir and its disk
//!   postgres.rs   PostgreSQL: reached, fast, new enough, durable, its logins, its migrations
//!   services.rs   Redis, clamd, the bucket
//!   clock.rs      this machine's clock and PostgreSQL's
//!   settings.rs   what the configuration alone shows: proxies, and values that are not recommended
//!   diagnosis.rs  what a check has found, as text and as JSON
//!   report.rs     prints it, and bounds the time of a check
//! ```
//!
//! Invariants:
//! - nothing is changed. The private PostgreSQL is not started, no key is made, no migration or rule set is touched.
//!   The probe of a bucket writes an object and removes it, as a start does;
//! - the checks are those of `serve`: each probe is a function that both use. Otherwise doctor would be content where
//!   the server refuses to start;
//! - each check ends within [`report::TIME_MAX`], and the next one runs;
//! - no secret is printed: errors name addresses and keys of the configuration only.
//!
//! The findings come in a fixed order, as they are made.

mod clock;
mod diagnosis;
mod machine;
mod postgres;
mod report;
mod services;
mod settings;

use self::report::DoctorReport;
use super::error::BootError;
use super::reach::runtime;
use crate::config::Config;

/// Threads for checks that block. One that hangs keeps its thread, and the others go on.
const BLOCKING_THREADS: usize = 8;

/// Examines the machine and the services, and prints the findings. Returns whether there is no fault. `json`: one JSON
/// object a line, instead of text.
///
/// # Errors
/// When the process cannot start a runtime.
pub fn diagnose(config: &Config, json: bool) -> Result<bool, BootError> {
    let runtime = runtime(BLOCKING_THREADS)?;
    let mut report = DoctorReport::new(json);
    runtime.block_on(examine_all(config, &mut report));
    // A disk or a name server that does not answer must not hold up the end.
    runtime.shutdown_background();
    Ok(report.end())
}

async fn examine_all(config: &Config, report: &mut DoctorReport) {
    let disk_answers = machine::examine(config, report).await;
    // What is known of PostgreSQL is in data_dir too, and reading there would hang.
    let client = if disk_answers { postgres::examine(config, report).await } else { None };
    report.add(&services::backup_programs());
    services::examine(config, report).await;
    clock::examine(client.as_ref(), report).await;
    settings::examine(config, report);
}
