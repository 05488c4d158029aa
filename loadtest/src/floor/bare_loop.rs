//! The bare loop: the socket floor's loop and the PostgreSQL floor's loader together, on the same cores.
//!
//! It is the least that a server of durable messages can do: receive, commit, and send what is committed. The figure to
//! compare is the rate of durable messages in a closed loop.
//!
//! 1. A private PostgreSQL has the rooms of the shape, as in the PostgreSQL floor.
//! 2. The loop's process reads messages, commits their rows in batches, and sends a message to its room when its row is
//!    committed ([`committer`](super::committer)). The sender's own copy is the ack.
//! 3. The clients are those of the socket floor ([`drive`](super::drive)).
//! 4. At the end the number of rows in the table is compared with the number of acknowledged messages.
//!
//! Invariants:
//! - one thread for the sockets, and one for each connection to PostgreSQL. What arrives during a commit is the next
//!   batch. With one connection batches are as large as the load allows, but PostgreSQL is idle between two of them. If
//!   that is too long, a second connection is faster, and only the faster of both is a floor;
//! - with cores of its own, the process shares them with PostgreSQL, as a server with `--server-cores` does. Otherwise
//!   the loop would have more of the machine than the server, and the ratio would blame the server for it.

use super::committer::Commits;
use super::drive::DriveFigures;
use super::postgres::{PostgresShape, StatementForm, Store};
use super::sockets::{self, ServerProcess, Shape, StoreOfLoop};
use super::summary::Percentiles;
use crate::measure::process::ProcessMeter;
use crate::run::Interrupts;
use crate::setup::pin::PinnedFamily;
use chat_server::limits::BATCH_ROWS_MAX;
use serde::{Deserialize, Serialize};
use std::sync::Mutex;

/// The shape of the work.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LoopShape {
    /// What the clients do.
    #[serde(flatten)]
    pub sockets: Shape,
    /// Connections that commit, each with its own thread and rooms.
    pub connections: usize,
    /// Characters of a message's content in PostgreSQL.
    pub content_bytes: usize,
}

impl LoopShape {
    /// Whether it can be run.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn validate(&self) -> Result<(), String> {
        self.sockets.validate()?;
        self.store().validate()
    }

    /// The rooms in PostgreSQL.
    fn store(&self) -> PostgresShape {
        PostgresShape {
            form: StatementForm::Known,
            connections: self.connections,
            batch: BATCH_ROWS_MAX,
            rooms: self.sockets.rooms as usize,
            room_size: self.sockets.room_size as usize,
            content_bytes: self.content_bytes,
            history: 0,
            warm_up_s: self.sockets.warm_up_s,
            seconds: self.sockets.seconds,
            quiet: self.sockets.quiet,
        }
    }
}

/// A measurement of the bare loop.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoopFloor {
    /// The shape of the work.
    pub shape: LoopShape,
    /// Measured, seconds.
    pub seconds: f64,
    /// Durable messages whose own copy arrived at their sender in that time.
    pub acked: u64,
    /// The same per second.
    pub acked_per_s: f64,
    /// Messages that arrived at a member in that time, per second.
    pub deliveries_per_s: f64,
    /// Rows of a commit, mean of all commits. Those of the warm-up and the drain are among them.
    pub batch_mean: f64,
    /// Planned send → arrival of the sender's own copy.
    pub ack: Percentiles,
    /// Planned send → arrival at a member.
    pub delivery: Percentiles,
    /// CPU of the loop's thread, in cores.
    pub loop_cores: f64,
    /// CPU of the loaders' threads, in cores.
    pub loader_cores: f64,
    /// CPU of all of PostgreSQL's processes, in cores.
    pub postgres_cores: f64,
    /// CPU of the driver's thread, in cores; near 1.0 it was the limit.
    pub driver_cores: f64,
    /// CPU of all of PostgreSQL's processes per acknowledged message.
    pub postgres_cpu_us_per_row: f64,
}

impl LoopFloor {
    fn of(shape: &LoopShape, found: &DriveFigures, commits: Commits) -> Self {
        Self {
            shape: shape.clone(),
            seconds: found.seconds,
            acked: found.acked,
            acked_per_s: found.acked as f64 / found.seconds,
            deliveries_per_s: found.deliveries as f64 / found.seconds,
            batch_mean: commits.mean(),
            ack: found.ack,
            delivery: found.delivery,
            loop_cores: found.cores(found.main_thread_ns),
            loader_cores: found.cores(found.server_ns.saturating_sub(found.main_thread_ns)),
            postgres_cores: found.cores(found.store_ns),
            driver_cores: found.cores(found.driver_ns),
            postgres_cpu_us_per_row: found.store_ns as f64 / 1e3 / found.acked.max(1) as f64,
        }
    }
}

impl Store {
    /// Measures the bare loop for one shape of work, from empty tables.
    ///
    /// # Errors
    /// What failed, which message did not arrive, or how many rows are missing.
    pub fn measure_loop(&self, shape: &LoopShape, interrupts: &Interrupts) -> Result<LoopFloor, String> {
        shape.validate()?;
        let rooms = self.runtime.block_on(self.rooms(&shape.store(), interrupts))?;
        let postmaster = self.postmaster()?;
        let _pinned = match shape.sockets.separate_cores() {
            Some((server, _)) => Some(PinnedFamily::pin(postmaster, server)?),
            None => None,
        };
        let store = StoreOfLoop {
            directory: self.directory(),
            rooms: &rooms,
            connections: shape.connections,
            content_bytes: shape.content_bytes,
        };
        let server = ServerProcess::start(&shape.sockets, Some(&store))?;
        let meter = Mutex::new(ProcessMeter::new(vec![postmaster]));
        let (found, commits) = sockets::run(&shape.sockets, server, Some(&meter), interrupts)?;
        // Each message has reached its sender, so each of them was acknowledged.
        self.runtime.block_on(self.check_rows(found.messages_in_all))?;
        Ok(LoopFloor::of(shape, &found, commits))
    }
}

#[cfg(all(test, feature = "test-db"))]
#[path = "bare_loop_tests.rs"]
mod tests;
