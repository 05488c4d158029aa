//! The PostgreSQL floor: commits the server's rows with the server's statement, and does nothing else.
//!
//! It is the upper limit of durably acknowledged messages: what a server would reach if it cost nothing itself.
//!
//! 1. It starts a private PostgreSQL as the server does, with the server's migrations ([`Store`]).
//! 2. It inserts users, rooms, members and, if asked to, a [`history`]. Each connection has its own rooms.
//! 3. Each connection commits one batch after the other, prepared, as the committer does: in the short form
//!    ([`StatementForm::Known`]), because it knows the heads of its rooms, or in the general one
//!    ([`StatementForm::General`]). It sends the next statement when PostgreSQL has answered the last one.
//! 4. At the end it compares the number of rows in the table with the number of acknowledged rows.
//!
//! [`history`]: super::history

use super::loader::{Loader, RoomOfLoader};
use super::summary::Percentiles;
use crate::engine::recorder::histogram;
use crate::measure::process::{ProcessMeter, Sample};
use crate::measure::thread;
use crate::progress;
use crate::run::Interrupts;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::time::{Duration, Instant};

pub use super::loader::StatementForm;
pub use super::shape::PostgresShape;
pub use super::store::Store;

/// How often PostgreSQL's processes are listed.
pub(super) const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);

/// A measurement of the PostgreSQL floor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PostgresFloor {
    /// The shape of the work.
    pub shape: PostgresShape,
    /// Measured, seconds.
    pub seconds: f64,
    /// Rows committed in that time.
    pub rows: u64,
    /// The same per second.
    pub rows_per_s: f64,
    /// Commits per second, all connections together.
    pub commits_per_s: f64,
    /// A statement's time, from its submission to its answer.
    pub commit: Percentiles,
    /// CPU of all of PostgreSQL's processes per row.
    pub postgres_cpu_us_per_row: f64,
    /// The same in cores.
    pub postgres_cores: f64,
    /// CPU of the loader's thread, in cores.
    pub loader_cores: f64,
}

impl Store {
    /// Measures one shape of work, from empty tables or with the history of the shape.
    ///
    /// # Errors
    /// What failed, or which rows are missing.
    pub fn measure(&self, shape: &PostgresShape, interrupts: &Interrupts) -> Result<PostgresFloor, String> {
        shape.validate()?;
        self.runtime.block_on(self.run(shape, interrupts))
    }

    async fn run(&self, shape: &PostgresShape, interrupts: &Interrupts) -> Result<PostgresFloor, String> {
        let rooms = self.rooms(shape, interrupts).await?;
        let before = rooms.iter().map(|room| room.last_seq as u64).sum::<u64>();
        let mut loaders = Vec::new();
        for index in 0..shape.connections {
            let own: Vec<RoomOfLoader> = rooms.iter().skip(index).step_by(shape.connections).cloned().collect();
            // An earlier case with the same history began with fewer messages.
            let name = format!("{before}.{index}");
            let target = self.embedded.target();
            loaders.push(Loader::connect(&target, shape.form, shape.content_bytes, &name, own).await?);
        }
        // The measurement starts here: it does not include connecting.
        let from = Instant::now() + Duration::from_secs_f64(shape.warm_up_s);
        let until = from + Duration::from_secs_f64(shape.seconds);
        let progress = Progress { from, until, interrupts, committed: Cell::new(0) };
        let total_ms = ((shape.warm_up_s + shape.seconds) * 1000.0) as u64;
        let bar = progress::run_bar(shape.quiet, total_ms);
        let (usage, results) = futures_util::future::join(
            self.watch(&progress, &bar),
            futures_util::future::join_all(loaders.iter_mut().map(|loader| progress.load(loader, shape.batch))),
        )
        .await;
        bar.finish_and_clear();
        let (usage, results) = (usage?, results.into_iter().collect::<Result<Vec<_>, _>>()?);

        self.check_rows(before + progress.committed.get()).await?;
        if shape.history > 0
            && let Some(rooms) = loaders.into_iter().map(Loader::into_rooms).collect::<Option<Vec<_>>>()
        {
            self.keep(shape, rooms.concat());
        }
        let mut commits = histogram()?;
        let (mut rows, mut rows_per_s, mut commits_per_s, mut longest) = (0, 0.0, 0.0, 0.0_f64);
        for result in &results {
            commits.add(&result.commits).map_err(|error| format!("cannot merge histograms: {error}"))?;
            rows += result.rows;
            rows_per_s += result.rows as f64 / result.seconds;
            commits_per_s += result.commits.len() as f64 / result.seconds;
            longest = longest.max(result.seconds);
        }
        Ok(PostgresFloor {
            shape: shape.clone(),
            seconds: longest,
            rows,
            rows_per_s,
            commits_per_s,
            commit: Percentiles::of(&commits),
            postgres_cpu_us_per_row: usage.postgres_us / usage.rows.max(1) as f64,
            postgres_cores: usage.postgres_cores,
            loader_cores: usage.loader_ns as f64 / 1e9 / usage.seconds,
        })
    }

    /// Reads the CPU at both ends of the measured time, and in between so that no process's end is missed.
    async fn watch(&self, progress: &Progress<'_>, bar: &indicatif::ProgressBar) -> Result<PostgresUsage, String> {
        let mut meter = ProcessMeter::new(vec![self.postmaster()?]);
        let started = Instant::now();
        let mut until = async |end: Instant| {
            while Instant::now() < end {
                progress.interrupts.check()?;
                tokio::time::sleep((end - Instant::now()).min(SAMPLE_INTERVAL)).await;
                meter.sample();
                bar.set_position(started.elapsed().as_millis() as u64);
            }
            PostgresReading::take(&mut meter, progress)
        };
        let before = until(progress.from).await?;
        let after = until(progress.until).await?;
        let spent = after.postgres.since(&before.postgres);
        Ok(PostgresUsage {
            seconds: (after.at - before.at).as_secs_f64(),
            postgres_us: spent.cpu.as_secs_f64() * 1e6,
            postgres_cores: spent.cores(),
            loader_ns: after.loader_ns - before.loader_ns,
            rows: after.rows - before.rows,
        })
    }
}

struct PostgresReading {
    at: Instant,
    postgres: Sample,
    loader_ns: u64,
    rows: u64,
}

impl PostgresReading {
    fn take(meter: &mut ProcessMeter, progress: &Progress<'_>) -> Result<Self, String> {
        let postgres = meter.sample();
        if postgres.processes() == 0 {
            return Err("the CPU of the floor's PostgreSQL cannot be read from /proc".to_owned());
        }
        Ok(Self { at: Instant::now(), postgres, loader_ns: thread::cpu_ns(), rows: progress.committed.get() })
    }
}

struct PostgresUsage {
    seconds: f64,
    postgres_us: f64,
    postgres_cores: f64,
    loader_ns: u64,
    rows: u64,
}

/// What all loaders share.
struct Progress<'a> {
    from: Instant,
    until: Instant,
    interrupts: &'a Interrupts,
    committed: Cell<u64>,
}

impl Progress<'_> {
    /// Commits one batch after the other until the end of the measured time.
    async fn load(&self, loader: &mut Loader, batch: usize) -> Result<LoaderResult, String> {
        while Instant::now() < self.from {
            self.commit(loader, batch).await?;
        }
        let started = Instant::now();
        let mut result = LoaderResult { rows: 0, seconds: 0.0, commits: histogram()? };
        // At least one, even on a slow disk: its time is the measurement.
        loop {
            let submitted = Instant::now();
            self.commit(loader, batch).await?;
            result.rows += batch as u64;
            result.commits.saturating_record(submitted.elapsed().as_micros() as u64);
            if Instant::now() >= self.until {
                break;
            }
        }
        result.seconds = started.elapsed().as_secs_f64();
        Ok(result)
    }

    async fn commit(&self, loader: &mut Loader, batch: usize) -> Result<(), String> {
        self.interrupts.check()?;
        loader.commit(&loader.senders_in_turn(batch)).await?;
        self.committed.set(self.committed.get() + batch as u64);
        Ok(())
    }
}

/// What one connection did in the measured time.
struct LoaderResult {
    rows: u64,
    seconds: f64,
    commits: Histogram<u64>,
}

#[cfg(all(test, feature = "test-db"))]
#[path = "postgres_tests.rs"]
mod tests;
