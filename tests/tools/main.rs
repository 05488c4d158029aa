//! The server with programs of others: browsers, WebSocket libraries, proxies, `promtool`, an authenticator app.
//!
//! How: scripts/install-test-clients.sh installs the programs. A missing program is a failure that names the script.
#![cfg(feature = "test-db")]

mod alerts;
mod containers;
mod dashboard;
mod deploy;
mod foreign_clients;
mod foreign_receivers;
mod live_prometheus;
mod manifests;
mod nodes_behind_proxy;
mod programs;
mod proxies;
mod sdk;
#[path = "../support/mod.rs"]
mod support;
mod systemd;
mod two_factor;
