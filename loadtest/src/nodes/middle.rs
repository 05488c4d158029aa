//! What the processes of a side use in the middle of a phase.
//!
//! The first and the last fifth do not count: connections that were just opened, and queues that empty. The servers'
//! own CPU and the messages that they have committed are on the same page of metrics, so both are of the same moment.

use crate::measure::process::{ProcessMeter, Sample};
use crate::measure::scrape::Scrape;
use crate::setup::api::Api;
use serde::Serialize;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The longest time between two readings of the processes: what a process uses after the last one is lost.
const BETWEEN: Duration = Duration::from_secs(1);

/// The middle of a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct MiddleUse {
    /// Its length.
    pub(super) seconds: f64,
    /// Messages that the servers committed.
    pub(super) messages: u64,
    /// CPU of all servers, microseconds a message.
    pub(super) server_us: f64,
    /// CPU of PostgreSQL, microseconds a message.
    pub(super) store_us: f64,
    /// CPU of Redis, microseconds a message; `None` without Redis.
    pub(super) redis_us: Option<f64>,
    /// Frames that nodes received through Redis.
    pub(super) frames_received: u64,
    /// The share of messages that were committed in the short form: their verdicts were known.
    pub(super) known_share: f64,
    /// The share of messages that were repeated in the general form, because the short one left them out. With several
    /// nodes, mostly another node has written meanwhile.
    pub(super) repeated_share: f64,
}

/// Reads the servers, their PostgreSQL and their Redis.
#[derive(Debug)]
pub(super) struct GroupMeter {
    pub(super) apis: Vec<Api>,
    pub(super) store: ProcessMeter,
    pub(super) redis: Option<ProcessMeter>,
}

/// What they have used and done so far.
#[derive(Clone, Debug)]
struct GroupReading {
    at: Instant,
    pages: PageSums,
    store: Sample,
    redis: Option<Sample>,
}

/// Sums over the metrics of all servers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct PageSums {
    cpu_s: f64,
    committed: f64,
    received: f64,
    known: f64,
    repeated: f64,
}

impl GroupMeter {
    /// Measures the middle of a phase of this length, which begins when `begun` is sent.
    ///
    /// # Errors
    /// That a server does not answer, or has none of the metrics.
    pub(super) async fn measure(
        mut self,
        begun: oneshot::Receiver<()>,
        duration: Duration,
    ) -> Result<MiddleUse, String> {
        begun.await.map_err(|_| "the load did not begin")?;
        let fifth = duration / 5;
        tokio::time::sleep(fifth).await;
        let before = self.read().await?;
        let end = before.at + fifth * 3;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            tokio::time::sleep(left.min(BETWEEN)).await;
            self.store.sample();
        }
        Ok(self.read().await?.since(&before))
    }

    async fn read(&mut self) -> Result<GroupReading, String> {
        let mut pages = PageSums::default();
        for api in &self.apis {
            let page = scrape(api).await?;
            let metric = |name: &str, label| {
                page.sum(name, label).ok_or_else(|| format!("{}: /metrics has no {name}", api.target()))
            };
            pages.cpu_s += metric("process_cpu_seconds_total", None)?;
            // Without a message there is no series yet.
            let count = |name: &str, label| page.sum(name, Some(label)).unwrap_or(0.0);
            pages.committed += count("chat_server_messages_total", ("outcome", "committed"));
            pages.known += count("chat_server_commit_messages_total", ("form", "known"));
            pages.repeated += count("chat_server_commit_messages_total", ("form", "repeated"));
            pages.received += count("chat_server_node_frames_total", ("outcome", "received"));
        }
        let redis = self.redis.as_mut().map(ProcessMeter::sample);
        Ok(GroupReading { at: Instant::now(), pages, store: self.store.sample(), redis })
    }
}

impl GroupReading {
    fn since(&self, earlier: &Self) -> MiddleUse {
        let messages = self.pages.committed - earlier.pages.committed;
        let per_message = |seconds: f64| if messages > 0.0 { seconds * 1e6 / messages } else { 0.0 };
        let share = |now: f64, earlier: f64| if messages > 0.0 { (now - earlier) / messages } else { 0.0 };
        let used = |now: &Sample, earlier: &Sample| per_message(now.since(earlier).cpu.as_secs_f64());
        MiddleUse {
            seconds: self.at.saturating_duration_since(earlier.at).as_secs_f64(),
            messages: messages.max(0.0) as u64,
            server_us: per_message(self.pages.cpu_s - earlier.pages.cpu_s),
            store_us: used(&self.store, &earlier.store),
            redis_us: self.redis.as_ref().zip(earlier.redis.as_ref()).map(|(now, earlier)| used(now, earlier)),
            known_share: share(self.pages.known, earlier.pages.known),
            repeated_share: share(self.pages.repeated, earlier.pages.repeated),
            frames_received: (self.pages.received - earlier.pages.received).max(0.0) as u64,
        }
    }
}

/// The metrics of a server.
pub(super) async fn scrape(api: &Api) -> Result<Scrape, String> {
    let page = api.get_text("/metrics").await.map_err(|error| error.to_string())?;
    Scrape::parse(&page).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divides_the_use_by_the_messages_of_all_nodes() {
        let mut meter = ProcessMeter::of_this_program();
        let idle = meter.sample();
        let reading = |cpu_s, committed, received| GroupReading {
            at: Instant::now(),
            pages: PageSums { cpu_s, committed, received, known: committed * 0.5, repeated: committed / 4.0 },
            store: idle.clone(),
            redis: None,
        };
        let found = reading(3.5, 1_100.0, 70.0).since(&reading(3.0, 100.0, 20.0));
        assert!((found.server_us - 500.0).abs() < 1e-6, "{found:?}");
        assert_eq!((found.messages, found.frames_received, found.redis_us), (1_000, 50, None));
        assert!(found.store_us.abs() < f64::EPSILON, "{found:?}");
        assert_eq!((found.known_share, found.repeated_share), (0.5, 0.25));
        let none = reading(3.5, 100.0, 0.0).since(&reading(3.0, 100.0, 0.0));
        assert!(none.server_us.abs() < f64::EPSILON, "no message, and no infinity: {none:?}");
    }

    #[tokio::test]
    async fn a_load_that_does_not_begin_is_an_error() {
        let meter = GroupMeter { apis: Vec::new(), store: ProcessMeter::of_this_program(), redis: None };
        let (announce, begun) = oneshot::channel();
        drop(announce);
        assert!(meter.measure(begun, Duration::from_hours(1)).await.is_err());
    }
}
