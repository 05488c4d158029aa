//! The deliveries of webhooks.

use super::Metrics;
use super::families::{family, sample};
use crate::hooks::deliver::HookCounts;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{MetricFamily, MetricType};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const DELIVERIES: (&str, &str) =
    ("chat_server_webhook_deliveries_total", "Attempts to deliver events to webhooks, by outcome; dead: given up.");

impl Metrics {
    /// Shows the deliveries of webhooks too.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn show_hooks(&self, counts: Arc<HookCounts>) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(HookMetrics::new(counts)?))
    }
}

struct HookMetrics {
    counts: Arc<HookCounts>,
    desc: Desc,
}

impl HookMetrics {
    fn new(counts: Arc<HookCounts>) -> Result<Self, prometheus::Error> {
        let labels = vec!["outcome".to_owned()];
        let desc =
            Desc::new(DELIVERIES.0.to_owned(), DELIVERIES.1.to_owned(), labels, std::collections::HashMap::new())?;
        Ok(Self { counts, desc })
    }
}

impl Collector for HookMetrics {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let counts = &self.counts;
        let outcomes = [
            ("delivered", &counts.delivered),
            ("failed", &counts.failed),
            ("dead", &counts.dead),
            ("withdrawn", &counts.withdrawn),
        ];
        let outcomes = outcomes
            .map(|(outcome, count)| sample(&[("outcome", outcome)], MetricType::COUNTER, count.load(Relaxed) as f64));
        let gauge = |name, help, value: u64| {
            family(name, help, MetricType::GAUGE, vec![sample(&[], MetricType::GAUGE, value as f64)])
        };
        vec![
            family(DELIVERIES.0, DELIVERIES.1, MetricType::COUNTER, outcomes.into()),
            gauge(
                "chat_server_webhook_pending",
                "Deliveries to webhooks that wait for an attempt, over all servers of the database.",
                counts.pending.load(Relaxed),
            ),
            gauge(
                "chat_server_webhook_oldest_seconds",
                "Age of the oldest delivery that waits.",
                counts.oldest_s.load(Relaxed),
            ),
        ]
    }
}
