//! CPU of a server and of its PostgreSQL, read together.

use super::listener::{listening_on, server_meter, store_meter};
use super::process::{ProcessMeter, Sample};
use std::net::SocketAddr;
use std::path::Path;

/// Both.
#[derive(Debug)]
pub struct Pair {
    server: ProcessMeter,
    store: ProcessMeter,
}

/// CPU of both at one time.
#[derive(Debug, Clone)]
pub struct Moment {
    server: Sample,
    store: Sample,
}

/// CPU of both between two times, microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Used {
    /// The server.
    pub server_us: f64,
    /// PostgreSQL.
    pub store_us: f64,
}

impl Used {
    /// Adds the use of another period.
    pub fn add(&mut self, other: Self) {
        self.server_us += other.server_us;
        self.store_us += other.store_us;
    }
}

impl Pair {
    /// Of the server that listens there and has its data in this directory.
    ///
    /// # Errors
    /// That its processes cannot be found.
    pub fn find(address: SocketAddr, data_dir: &Path) -> Result<Self, String> {
        let pids = listening_on(address).map_err(|error| error.to_string())?;
        let store = store_meter(&pids, Some(data_dir)).ok_or("PostgreSQL's processes were not found")?;
        Ok(Self { server: server_meter(pids), store })
    }

    /// Now.
    pub fn sample(&mut self) -> Moment {
        Moment { server: self.server.sample(), store: self.store.sample() }
    }

    /// From an earlier moment to now.
    pub fn since(&mut self, earlier: &Moment) -> Used {
        let now = self.sample();
        let us = |now: &Sample, earlier: &Sample| now.since(earlier).cpu.as_secs_f64() * 1e6;
        Used { server_us: us(&now.server, &earlier.server), store_us: us(&now.store, &earlier.store) }
    }
}
