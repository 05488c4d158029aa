//! The thread that exchanges events with other nodes.

use super::error::{BootError, system};
use crate::address::parse_host_port;
use crate::cluster::{self, ClusterParts};
use crate::config::Config;
use crate::control::Notices;
use crate::faults::stop_process;
use crate::mesh::lane::Mesh;
use crate::mesh::node_status::NodeStatus;
use crate::storage::accounts::Accounts;
use crate::storage::connect::{Role, Target};
use crate::storage::nodes::NodeStore;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use tokio::sync::Notify;

/// Connections to PostgreSQL: one for the heads, one for the trail.
const CONNECTIONS: usize = 2;
/// Descriptors of the thread: these, a connection to each server of a Redis Cluster, its bell and its runtime.
pub(super) const DESCRIPTORS: usize = CONNECTIONS + 64;

/// Whether other servers may use the database at the same time.
pub(super) fn is_shared(config: &Config) -> bool {
    config.database.shared || config.cluster.redis_url.is_some()
}

/// The addresses of Redis in the configuration; none without Redis. Connects to nothing yet.
pub(super) fn redis_addresses(config: &Config) -> Result<Vec<ConnectionInfo>, BootError> {
    let Some(url) = &config.cluster.redis_url else { return Ok(Vec::new()) };
    let first = url.expose().into_connection_info();
    let first = first.map_err(|error| BootError::Configuration(format!("cluster.redis_url: {error}")))?;
    let seeds = config.cluster.redis_seeds.iter().filter_map(|seed| parse_host_port(seed));
    let seeds = seeds.map(|(host, port)| {
        let address = match first.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host: host.to_owned(),
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host.to_owned(), port),
        };
        first.clone().set_addr(address)
    });
    let seeds: Vec<ConnectionInfo> = seeds.collect();
    Ok(std::iter::once(first).chain(seeds).collect())
}

/// The running thread.
pub(super) struct ClusterThread {
    thread: JoinHandle<io::Result<()>>,
    stop: Arc<Notify>,
    is_stopping: Arc<AtomicBool>,
    status: Arc<NodeStatus>,
}

impl ClusterThread {
    pub(super) fn status(&self) -> Arc<NodeStatus> {
        Arc::clone(&self.status)
    }

    /// Ends it, after the shards: what they published last is sent.
    pub(super) fn stop(self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.stop.notify_one();
        match self.thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("the cluster thread failed: {error}"),
            Err(_) => tracing::error!("the cluster thread panicked"),
        }
    }
}

/// From where the thread reads the audit trail. Read it before the first client is admitted: what other nodes do from
/// then on is not in what is read for that client.
pub(super) async fn trail_start(accounts: &Accounts) -> Result<i64, BootError> {
    let position = NodeStore::new(accounts.clone()).trail_position().await;
    position.map_err(|refusal| BootError::Broken(format!("the position in the audit trail cannot be read: {refusal}")))
}

/// Starts it.
pub(super) fn spawn(
    config: &Config,
    (mesh, target): (&Arc<Mesh>, &Target),
    trail_start: i64,
    revoked: Notices,
) -> Result<ClusterThread, BootError> {
    let redis = redis_addresses(config)?;
    let status = mesh.nodes().map(|nodes| Arc::clone(&nodes.status)).unwrap_or_default();
    let stop = Arc::new(Notify::new());
    if redis.is_empty() {
        tracing::info!("events of other nodes are read from PostgreSQL; cluster.redis_url makes them faster");
    } else {
        status.went_down("the first connection is being made");
    }
    let parts = ClusterParts {
        mesh: Arc::clone(mesh),
        store: NodeStore::new(Accounts::new(target.pool(Role::Writer, CONNECTIONS)?)),
        redis,
        name: config.cluster.name.clone(),
        status: Arc::clone(&status),
        trail_start,
        revoked,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(system("cannot make the runtime of the cluster thread"))?;
    let is_stopping = Arc::<AtomicBool>::default();
    let (stopped, is_asked) = (Arc::clone(&stop), Arc::clone(&is_stopping));
    let serve = move || {
        let ended = runtime.block_on(cluster::serve(parts, stopped));
        if !is_asked.load(Ordering::Relaxed) {
            // Without it the server learns nothing of revocations on other nodes.
            stop_process(&format!("the cluster thread has ended: {ended:?}"));
        }
        ended
    };
    let thread = std::thread::Builder::new().name("cluster".to_owned()).spawn(serve);
    let thread = thread.map_err(system("cannot start the cluster thread"))?;
    Ok(ClusterThread { thread, stop, is_stopping, status })
}
