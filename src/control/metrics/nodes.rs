//! The exchange with other nodes.

use super::families::{family, sample};
use crate::mesh::node_status::NodeStatus;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{MetricFamily, MetricType};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const FRAMES: (&str, &str) = ("chat_server_node_frames_total", "What nodes tell each other through Redis, by outcome.");

pub(super) struct NodeMetrics {
    status: Arc<NodeStatus>,
    desc: Desc,
}

impl NodeMetrics {
    pub(super) fn new(status: Arc<NodeStatus>) -> Result<Self, prometheus::Error> {
        let labels = vec!["outcome".to_owned()];
        let desc = Desc::new(FRAMES.0.to_owned(), FRAMES.1.to_owned(), labels, std::collections::HashMap::new())?;
        Ok(Self { status, desc })
    }
}

impl Collector for NodeMetrics {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        const GAUGE: MetricType = MetricType::GAUGE;
        const COUNTER: MetricType = MetricType::COUNTER;
        let status = &self.status;
        let outcomes = [
            ("published", &status.published),
            ("unpublished", &status.unpublished),
            ("received", &status.received),
            ("unreceived", &status.unreceived),
        ];
        let frames =
            outcomes.map(|(outcome, count)| sample(&[("outcome", outcome)], COUNTER, count.load(Relaxed) as f64));
        let is_up = if status.problem().is_none() { 1.0 } else { 0.0 };
        let one = |name, help, kind, value| family(name, help, kind, vec![sample(&[], kind, value)]);
        vec![
            family(FRAMES.0, FRAMES.1, COUNTER, frames.into()),
            one("chat_server_redis_up", "1 while events are exchanged with other nodes through Redis.", GAUGE, is_up),
            one(
                "chat_server_redis_links_total",
                "Connections to Redis that were made: more than one means that one was lost.",
                COUNTER,
                status.links.load(Relaxed) as f64,
            ),
            one(
                "chat_server_followed_conversations",
                "Conversations whose channels this node is subscribed to.",
                GAUGE,
                status.followed.load(Relaxed) as f64,
            ),
            one(
                "chat_server_nodes_unheard",
                "Servers on this database that are not heard through Redis, while this one can use it.",
                GAUGE,
                status.unheard.load(Relaxed) as f64,
            ),
        ]
    }
}
