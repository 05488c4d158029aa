//! Nodes on one database, and what they say about themselves.

use super::starting::database_url;
use crate::support::{PATIENCE, Server, text};
use reqwest::Method;
use serde_json::Value;
use std::time::{Duration, Instant};

/// A server with the private PostgreSQL, and nodes that use it.
pub(super) struct Cluster {
    // Dropped first: without PostgreSQL they do not stop in order.
    pub(super) nodes: Vec<Server>,
    pub(super) host: Server,
}

impl Cluster {
    pub(super) fn start(nodes: usize, redis_url: Option<&str>) -> Self {
        let redis: Vec<_> = redis_url.into_iter().map(|url| ("cluster.redis_url", url)).collect();
        Self::start_with(nodes, &redis)
    }

    /// The same, with these settings of each node.
    pub(super) fn start_with(nodes: usize, settings: &[(&str, &str)]) -> Self {
        let host = Self::host();
        Self { nodes: (0..nodes).map(|_| Self::node(&host, settings)).collect(), host }
    }

    /// The server with the private PostgreSQL.
    pub(super) fn host() -> Server {
        Server::start(1, &[("database.shared", "true")])
    }

    /// Leaves its PostgreSQL alone with the nodes: a server with the private one cannot use Redis.
    pub(super) fn end_host(host: &Server) {
        host.kill9();
    }

    pub(super) fn node(host: &Server, settings: &[(&str, &str)]) -> Server {
        let database = database_url(host);
        let database = [("database.url", database.as_str()), ("database.shared", "true")];
        Server::start_with(2, &[&database, settings].concat(), &[("CHAT_TEST_LEDGER_SECONDS", "1")])
    }

    pub(super) fn pair(&self) -> (&Server, &Server) {
        (&self.nodes[0], &self.nodes[1])
    }
}

pub(super) async fn metric(server: &Server, name: &str) -> f64 {
    let page = reqwest::get(format!("{}/metrics", server.base_url)).await.unwrap().text().await.unwrap();
    let values = page.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.split(' ').next_back());
    values.map(|value| value.parse::<f64>().unwrap()).sum()
}

pub(super) async fn wait_for_metric(server: &Server, name: &str, wanted: impl Fn(f64) -> bool) {
    let started = Instant::now();
    while !wanted(metric(server, name).await) {
        assert!(started.elapsed() < PATIENCE, "{name} is {}", metric(server, name).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until `/health/ready` has this HTTP status, and its check of the exchange with other nodes this one. Returns
/// the reason of that check.
pub(super) async fn wait_for_readiness(server: &Server, status: u16, nodes: &str) -> String {
    let started = Instant::now();
    loop {
        let (answered, health) = server.request(Method::GET, "/health/ready", None, None).await;
        let check: &Value = &health["checks"]["nodes"];
        if (answered, text(&check["status"])) == (status, nodes) {
            return check["reason"].as_str().unwrap_or_default().to_owned();
        }
        assert!(started.elapsed() < PATIENCE, "{status} and {nodes} are wanted: {answered} {health}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
