//! Reads the use of server, store and generator once a second, and the server's own metrics before and after.

use crate::measure::listener::{listening_on, server_meter, store_meter};
use crate::measure::process::{ProcessMeter, Sample, Work};
use crate::measure::scrape::Scrape;
use crate::result::{Second, ServerSide, Usage};
use crate::setup::api::Api;
use procfs::{Current, Meminfo};
use std::net::SocketAddr;
use std::path::Path;
use tokio::sync::oneshot;

/// CPU used in one second.
#[derive(Clone, Copy, Debug, Default)]
pub struct CoreUsage {
    server: f64,
    store: f64,
    generator: f64,
    server_rss_bytes: u64,
}

impl CoreUsage {
    /// Completes an entry of the time line.
    pub fn put_into(&self, second: &mut Second) {
        second.server_cores = self.server;
        second.store_cores = self.store;
        second.generator_cores = self.generator;
        second.server_rss_bytes = self.server_rss_bytes;
    }
}

/// One group of processes, sampled at the beginning and at the end.
struct ProcessGroup {
    meter: ProcessMeter,
    before: Sample,
    start: Sample,
    last: Sample,
}

impl ProcessGroup {
    fn new(mut meter: ProcessMeter) -> Option<Self> {
        let now = meter.sample();
        (now.processes() > 0).then(|| Self { meter, before: now.clone(), start: now.clone(), last: now })
    }

    /// Cores used since the last sample.
    fn sample(&mut self) -> f64 {
        let now = self.meter.sample();
        let cores = now.since(&self.last).cores();
        self.last = now;
        cores
    }
}

/// Reads them all.
pub struct Gauge {
    address: SocketAddr,
    server: Option<ProcessGroup>,
    store: Option<ProcessGroup>,
    generator: Option<ProcessGroup>,
    metrics_before: Option<Scrape>,
    some_connected: Option<MemoryInUse>,
    server_bytes_per_connection: Option<f64>,
    kernel_bytes_per_connection: Option<f64>,
    begun: Option<oneshot::Sender<()>>,
}

/// Connections that must be between two samples of the server's memory. With fewer, whole pages and memory allocated
/// in advance would exceed what the connections use.
const MEMORY_CONNECTIONS_MIN: usize = 100;

/// What so many open connections take.
#[derive(Clone, Copy)]
struct MemoryInUse {
    connections: usize,
    /// The server's anonymous memory.
    server_bytes: u64,
    /// The kernel's slabs, where the sockets are.
    kernel_bytes: Option<u64>,
}

/// Bytes per connection, by the growth between two numbers of connections; `None` when the growth is hidden by memory
/// that the server had allocated before and reuses.
fn slope((connections_before, bytes_before): (usize, u64), (connections, bytes): (usize, u64)) -> Option<f64> {
    let between = connections.checked_sub(connections_before).filter(|between| *between >= MEMORY_CONNECTIONS_MIN)?;
    Some(bytes.checked_sub(bytes_before)? as f64 / between as f64)
}

impl Gauge {
    /// Before any connection is open. A server that is not on this machine has no processes here.
    pub fn new(address: SocketAddr, data_dir: Option<&Path>) -> Self {
        let pids = listening_on(address).unwrap_or_default();
        let server = if pids.is_empty() { None } else { ProcessGroup::new(server_meter(pids.clone())) };
        let store = store_meter(&pids, data_dir).and_then(ProcessGroup::new);
        Self::of(address, server, store)
    }

    /// Processes that are known, with their descendants.
    pub fn of_processes(address: SocketAddr, server: i32, store: Option<i32>) -> Self {
        let group = |pid| ProcessGroup::new(ProcessMeter::new(vec![pid]));
        Self::of(address, group(server), store.and_then(group))
    }

    fn of(address: SocketAddr, server: Option<ProcessGroup>, store: Option<ProcessGroup>) -> Self {
        Self {
            address,
            server,
            store,
            generator: ProcessGroup::new(ProcessMeter::of_this_program()),
            metrics_before: None,
            some_connected: None,
            server_bytes_per_connection: None,
            kernel_bytes_per_connection: None,
            begun: None,
        }
    }

    /// Notifies another task when sending begins.
    pub fn announcing(mut self, begun: Option<oneshot::Sender<()>>) -> Self {
        self.begun = begun;
        self
    }

    /// This many connections are open and others follow. The server has done its one-time set-up.
    pub fn some_connected(&mut self, connections: usize) {
        self.some_connected = self.memory(connections);
    }

    fn memory(&mut self, connections: usize) -> Option<MemoryInUse> {
        let server = self.server.as_mut()?;
        server.sample();
        let kernel_bytes = Meminfo::current().ok().map(|memory| memory.slab);
        Some(MemoryInUse { connections, server_bytes: server.last.anonymous_bytes(), kernel_bytes })
    }

    /// All connections are open, and nothing is sent yet.
    pub async fn connected(&mut self, api: Option<&Api>, connections: usize) {
        if let Some((before, now)) = self.some_connected.zip(self.memory(connections)) {
            let per_connection = |bytes: fn(&MemoryInUse) -> Option<u64>| {
                slope((before.connections, bytes(&before)?), (now.connections, bytes(&now)?))
            };
            self.server_bytes_per_connection = per_connection(|memory| Some(memory.server_bytes));
            // The kernel has both ends of a connection: the server is on this machine, too.
            let of_both_ends = per_connection(|memory| memory.kernel_bytes);
            self.kernel_bytes_per_connection = of_both_ends.map(|bytes| bytes / 2.0);
        }
        if let Some(api) = api {
            self.metrics_before = scrape(api).await;
        }
    }

    /// Sending begins: [`usage`](Self::usage) counts from here.
    pub fn begin(&mut self) {
        for group in [&mut self.server, &mut self.store, &mut self.generator].into_iter().flatten() {
            group.sample();
            group.start = group.last.clone();
        }
        if let Some(begun) = self.begun.take() {
            // Without a receiver nobody measures beside this gauge any longer.
            let _ = begun.send(());
        }
    }

    /// Another second has passed, or sending has ended.
    pub fn sample(&mut self) -> CoreUsage {
        // A server that was restarted is another process.
        if let Some(server) = &mut self.server
            && server.last.processes() == 0
            && let Ok(pids) = listening_on(self.address)
        {
            server.meter.follow(pids);
        }
        let sample = |group: &mut Option<ProcessGroup>| group.as_mut().map_or(0.0, ProcessGroup::sample);
        let (server, store, generator) =
            (sample(&mut self.server), sample(&mut self.store), sample(&mut self.generator));
        let server_rss_bytes = self.server.as_ref().map_or(0, |server| server.last.rss_bytes());
        CoreUsage { server, store, generator, server_rss_bytes }
    }

    /// CPU used from [`begin`](Self::begin) to the last sample. `work` must cover the same time; otherwise the CPU per
    /// message is wrong.
    pub fn usage(&self, work: Work) -> Usage {
        let usage = |group: &Option<ProcessGroup>| {
            let group = group.as_ref()?;
            Some(group.last.since(&group.start).usage(work, group.before.rss_bytes()))
        };
        Usage {
            server: usage(&self.server),
            store: usage(&self.store),
            generator: usage(&self.generator),
            server_bytes_per_connection: self.server_bytes_per_connection,
            kernel_bytes_per_connection: self.kernel_bytes_per_connection,
        }
    }

    /// The server's own metrics of the run.
    pub async fn server_side(&self, api: &Api) -> Option<ServerSide> {
        scrape(api).await?.since(self.metrics_before.as_ref()?)
    }
}

async fn scrape(api: &Api) -> Option<Scrape> {
    Scrape::parse(&api.get_text("/metrics").await.ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computes_memory_per_connection_as_a_slope() {
        assert_eq!(slope((1000, 5_000_000), (3000, 7_000_000)), Some(1000.0));
        assert_eq!(slope((1000, 5_000_000), (3000, 5_000_000)), Some(0.0));
        assert_eq!(slope((1000, 5_000_000), (3000, 4_999_999)), None, "shrinking is no measurement");
        assert_eq!(slope((10, 5_000_000), (20, 5_100_000)), None, "too few connections");
        assert_eq!(slope((20, 5_000_000), (10, 5_100_000)), None);
    }

    #[test]
    fn counts_usage_from_the_start_of_sending() {
        let burn = |gauge: &mut Gauge| {
            let before = gauge.generator.as_mut().expect("this program").meter.sample();
            let spent = |gauge: &mut Gauge| {
                gauge.generator.as_mut().expect("this program").meter.sample().since(&before).cpu.as_secs_f64()
            };
            while spent(gauge) < 0.1 {
                std::hint::black_box((0..1_000_000_u64).fold(0, |sum: u64, n| sum.wrapping_mul(31) ^ n));
            }
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut gauge = Gauge::new(address, None);
        burn(&mut gauge);
        gauge.begin();
        let used = |gauge: &Gauge| gauge.usage(Work { acked: 10, delivered: 0 }).generator.expect("this program");
        assert!(used(&gauge).cpu_s.abs() < f64::EPSILON, "what was used before does not count");
        burn(&mut gauge);
        gauge.sample();
        let at_the_end = used(&gauge);
        assert!(at_the_end.cpu_s >= 0.1, "{at_the_end:?}");
        assert!((at_the_end.cpu_us_per_message - at_the_end.cpu_s * 1e5).abs() < 1e-3, "{at_the_end:?}");
        burn(&mut gauge);
        assert!((used(&gauge).cpu_s - at_the_end.cpu_s).abs() < f64::EPSILON, "what is used later does not count");
    }
}
