//! Reads what server, store and generator use, once a second, and the server's own metrics before and after.

use crate::measure::listener::{listening_on, server_meter, store_meter};
use crate::measure::process::{ProcessMeter, Sample, Work};
use crate::measure::scrape::Scrape;
use crate::result::{Second, ServerSide, Usage};
use crate::setup::api::Api;
use std::net::SocketAddr;
use std::path::Path;

/// What was used in one second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cores {
    server: f64,
    store: f64,
    generator: f64,
    server_rss_bytes: u64,
}

impl Cores {
    /// Completes an entry of the time line.
    pub fn put_into(&self, second: &mut Second) {
        second.server_cores = self.server;
        second.store_cores = self.store;
        second.generator_cores = self.generator;
        second.server_rss_bytes = self.server_rss_bytes;
    }
}

/// One group of processes: at the moments that matter.
struct Group {
    meter: ProcessMeter,
    before: Sample,
    start: Sample,
    last: Sample,
}

impl Group {
    fn new(mut meter: ProcessMeter) -> Option<Self> {
        let now = meter.sample();
        (now.processes() > 0).then(|| Self { meter, before: now.clone(), start: now.clone(), last: now })
    }

    /// Cores used since the last look.
    fn look(&mut self) -> f64 {
        let now = self.meter.sample();
        let cores = now.since(&self.last).cores();
        self.last = now;
        cores
    }
}

/// Reads them all.
pub struct Gauge {
    address: SocketAddr,
    server: Option<Group>,
    store: Option<Group>,
    generator: Option<Group>,
    metrics_before: Option<Scrape>,
    connected_anonymous_bytes: Option<u64>,
}

impl Gauge {
    /// Before any connection is open. A server that is not on this machine has no processes here.
    pub fn new(address: SocketAddr, data_dir: Option<&Path>) -> Self {
        let pids = listening_on(address).unwrap_or_default();
        let server = if pids.is_empty() { None } else { Group::new(server_meter(pids.clone())) };
        let store = store_meter(&pids, data_dir).and_then(Group::new);
        let generator = Group::new(ProcessMeter::of_this_program());
        Self { address, server, store, generator, metrics_before: None, connected_anonymous_bytes: None }
    }

    /// Processes that are known, with their descendants.
    pub fn of_processes(address: SocketAddr, server: i32, store: Option<i32>) -> Self {
        let group = |pid| Group::new(ProcessMeter::new(vec![pid]));
        let generator = Group::new(ProcessMeter::of_this_program());
        let (server, store) = (group(server), store.and_then(group));
        Self { address, server, store, generator, metrics_before: None, connected_anonymous_bytes: None }
    }

    /// All connections are open, nothing is sent yet.
    pub async fn connected(&mut self, api: Option<&Api>) {
        if let Some(api) = api {
            self.metrics_before = scrape(api).await;
        }
        for group in [&mut self.server, &mut self.store, &mut self.generator].into_iter().flatten() {
            group.look();
            group.start = group.last.clone();
        }
        self.connected_anonymous_bytes = self.server.as_ref().map(|server| server.start.anonymous_bytes());
    }

    /// Another second has passed.
    pub fn look(&mut self) -> Cores {
        // A server that was restarted is another process.
        if let Some(server) = &mut self.server
            && server.last.processes() == 0
            && let Ok(pids) = listening_on(self.address)
        {
            server.meter.follow(pids);
        }
        let look = |group: &mut Option<Group>| group.as_mut().map_or(0.0, Group::look);
        let (server, store, generator) = (look(&mut self.server), look(&mut self.store), look(&mut self.generator));
        let server_rss_bytes = self.server.as_ref().map_or(0, |server| server.last.rss_bytes());
        Cores { server, store, generator, server_rss_bytes }
    }

    /// What was used from [`connected`](Self::connected) to the last look.
    pub fn usage(&self, work: Work, connections: u64) -> Usage {
        let usage = |group: &Option<Group>| {
            let group = group.as_ref()?;
            Some(group.last.since(&group.start).usage(work, group.before.rss_bytes()))
        };
        let bytes = self.server.as_ref().zip(self.connected_anonymous_bytes).map(|(server, connected)| {
            connected.saturating_sub(server.before.anonymous_bytes()) as f64 / connections.max(1) as f64
        });
        Usage {
            server: usage(&self.server),
            store: usage(&self.store),
            generator: usage(&self.generator),
            server_bytes_per_connection: bytes.filter(|_| connections > 0),
        }
    }

    /// What the server says about the run.
    pub async fn server_side(&self, api: &Api) -> Option<ServerSide> {
        scrape(api).await?.since(self.metrics_before.as_ref()?)
    }
}

async fn scrape(api: &Api) -> Option<Scrape> {
    Scrape::parse(&api.get_text("/metrics").await.ok()?).ok()
}
