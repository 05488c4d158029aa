//! Start and stop of the process: the only place that knows every part.
//!
//! Start: limits of the process → PostgreSQL (embedded or given), migrations, safety checks → listening sockets →
//! I/O shard → shards → control plane on this thread. Stop is in [`shutdown`].

pub mod logging;
mod ports;
mod secret;
mod shutdown;
mod topology;

use crate::config::{Config, Environment};
use crate::control::announcer;
use crate::control::dashboard::{Access, Dashboard};
use crate::control::http::HttpServer;
use crate::control::metrics::Metrics;
use crate::control::observed::Observed;
use crate::control::{Control, ControlParts};
use crate::ids::UserId;
use crate::latency::StorageLatencies;
use crate::mesh::counters::ShardCounters;
use crate::mesh::lane::Mesh;
use crate::mesh::placement::Placement;
use crate::net;
use crate::shard::ShardSettings;
use crate::storage::accounts::Accounts;
use crate::storage::connect::{Role, Target};
use crate::storage::embedded::{self, Embedded};
use crate::storage::health::StorageHealth;
use crate::storage::migrate::Plan;
use crate::storage::{StorageError, migrate as migrations};
use crate::wire::command::Command;
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Threads that hash passwords. Few: each keeps the 19 MiB that a hash needs in its heap.
const HASH_THREADS: usize = 2;
/// Connections to PostgreSQL for accounts.
const ACCOUNT_CONNECTIONS: usize = 4;
/// Descriptors kept for PostgreSQL, files and the control plane.
const DESCRIPTORS_RESERVED: u64 = 256;
/// How often expired tickets and tokens are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Why the server could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// PostgreSQL.
    #[error("{0}")]
    Storage(#[from] StorageError),
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {source}; is another server running there? set server.bind_addr")]
    Listen {
        /// Which.
        address: std::net::SocketAddr,
        /// The system's words.
        source: io::Error,
    },
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// The system's words.
        source: io::Error,
    },
    /// The configuration does not work on this machine.
    #[error("{0}")]
    Configuration(String),
    /// A part ended that must not.
    #[error("{0}; the process stops so that a supervisor starts it afresh, nothing acknowledged is lost")]
    Broken(String),
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> BootError {
    move |source| BootError::System { what, source }
}

/// Where PostgreSQL is, and the embedded one if it is ours.
fn storage_of(config: &Config) -> Result<(Target, Option<Embedded>), BootError> {
    let (target, embedded) = match &config.database.url {
        Some(url) => (Target::from_url(url.expose())?, None),
        None => {
            let embedded = Embedded::start(&config.data_dir)?;
            (embedded.target(), Some(embedded))
        }
    };
    Ok((target.with_mentions(config.features.user_mentions), embedded))
}

fn runtime() -> Result<tokio::runtime::Runtime, BootError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(HASH_THREADS)
        .build()
        .map_err(system("cannot start the runtime"))
}

async fn prepare(target: &Target, embedded: Option<&Embedded>, migrate: bool) -> Result<(), BootError> {
    if let Some(embedded) = embedded {
        embedded.create_database().await?;
    }
    if migrate {
        migrations::migrate(target).await?;
    } else {
        migrations::require_migrated(target).await?;
    }
    migrations::check(target).await?;
    Ok(())
}

/// Applies the migrations.
///
/// # Errors
/// When the database cannot be reached or a migration fails.
pub fn migrate(config: &Config) -> Result<(), BootError> {
    let (target, embedded) = storage_of(config)?;
    runtime()?.block_on(prepare(&target, embedded.as_ref(), true))?;
    tracing::info!("the database is up to date");
    Ok(())
}

/// Prints what [`migrate`] would change, and changes nothing.
///
/// # Errors
/// When the database cannot be reached, or is not one that this version can use.
pub fn plan_migration(config: &Config) -> Result<(), BootError> {
    let plan = match &config.database.url {
        Some(url) => runtime()?.block_on(migrations::plan(&Target::from_url(url.expose())?))?,
        None => plan_embedded(config)?,
    };
    // Not print!, which panics when the reader of a pipe has seen enough.
    let _ = io::stdout().write_all(plan.to_string().as_bytes());
    Ok(())
}

/// The plan for the embedded PostgreSQL: as it runs, started for the plan and stopped again, or not there at all.
fn plan_embedded(config: &Config) -> Result<Plan, BootError> {
    if let Some(running) = embedded::running(&config.data_dir) {
        return Ok(runtime()?.block_on(migrations::plan(&running.target()))?);
    }
    if !embedded::is_initialised(&config.data_dir) {
        tracing::info!("there is no private PostgreSQL in {} yet; it would be made", config.data_dir.display());
        return Ok(Plan::for_empty());
    }
    tracing::info!("starting the private PostgreSQL in {} for the plan", config.data_dir.display());
    let started = Embedded::start(&config.data_dir)?;
    Ok(runtime()?.block_on(async {
        if started.has_database().await? { migrations::plan(&started.target()).await } else { Ok(Plan::for_empty()) }
    })?)
}

/// Runs the server until it is told to stop.
///
/// # Errors
/// When it cannot start, or a part of it ends that must not.
pub fn serve(config: &Config) -> Result<(), BootError> {
    let started = Instant::now();
    topology::check_kernel()?;
    let max_connections = topology::raise_descriptor_limit(config.limits.max_connections, DESCRIPTORS_RESERVED)?;
    let cores = topology::cores()?;
    let workers = topology::workers(config.server.workers, cores.len())?;
    let listeners = (0..workers)
        .map(|_| net::bind(config.server.bind_addr))
        .collect::<io::Result<Vec<TcpListener>>>()
        .map_err(|source| BootError::Listen { address: config.server.bind_addr, source })?;

    let (target, embedded) = storage_of(config)?;
    let runtime = runtime()?;
    runtime.block_on(prepare(&target, embedded.as_ref(), config.database.auto_migrate))?;
    let keys = Arc::new(secret::keys(config)?);

    let mesh = Mesh::new(Placement::new(workers as u8)).map_err(system("cannot make the doorbells"))?;
    let health = StorageHealth::default();
    let storage_latencies = Arc::new(StorageLatencies::default());
    let storage_stop = Arc::new(AtomicBool::new(false));
    let storage = topology::spawn_storage(
        Arc::clone(&mesh),
        target.clone(),
        config.database.max_connections,
        health.clone(),
        Arc::clone(&storage_latencies),
        Arc::clone(&storage_stop),
    )?;

    let mut limits = config.limits();
    limits.max_connections = max_connections;
    let settings = Arc::new(ShardSettings {
        limits,
        keys: Arc::clone(&keys),
        allowed_origins: config.security.allowed_origins.clone(),
        loopback_origins: config.server.environment == Environment::Development,
        heartbeat_ms: config.server.heartbeat_interval.as_millis() as u64,
        head_timeout_ms: config.server.connection_timeout.as_millis() as u64,
        deflate: config.features.compression,
        features: config.features.for_clients(),
        content_filtering: config.security.content_filtering,
        revocation_memory_ms: config.security.jwt_access_duration.as_millis() as u64 + 60_000,
        connections: Arc::new(AtomicUsize::new(0)),
        drained: AtomicUsize::new(0),
        started,
    });
    let counters: Vec<Arc<ShardCounters>> =
        (0..workers).map(|_| Arc::new(ShardCounters::new(&Command::NAMES))).collect();
    let shards = topology::spawn_shards(&cores, &mesh, &settings, &counters, listeners)?;

    let accounts = Accounts::new(target.pool(Role::Writer, ACCOUNT_CONNECTIONS)?);
    let state = Arc::new(shutdown::State::default());
    let observed = Observed { shards: counters, storage: storage_latencies, started };
    let health = Arc::new(ports::Health::new(Arc::clone(&state), health, observed.clone()));
    let metrics = Metrics::new(observed.clone()).map_err(|e| BootError::Configuration(format!("metrics: {e}")))?;
    let dashboard = Dashboard::new(observed, Arc::clone(&health) as _, dashboard_access(config));
    runtime.spawn(dashboard.clone().run());
    let commands = Arc::new(ports::Commands::new(Arc::clone(&mesh)));
    let profile_changes = Arc::new(Notify::new());
    runtime.spawn(announcer::run(accounts.clone(), Arc::clone(&commands) as _, Arc::clone(&profile_changes)));
    let router = Control::new(ControlParts {
        accounts: accounts.clone(),
        keys,
        access_lifetime_seconds: config.security.jwt_access_duration.as_secs() as i64,
        refresh_lifetime_seconds: config.security.jwt_refresh_duration.as_secs() as i64,
        hash_workers: cores.len().clamp(1, HASH_THREADS),
        commands,
        profile_changes,
        health,
        notices: ports::notices(Arc::clone(&mesh), runtime.handle().clone()),
        metrics,
        dashboard,
    })
    .router();
    let http = HttpServer::new(router, runtime.handle().clone());
    announce(config, workers, started);
    let parts = shutdown::Parts { mesh, state, shards, storage, storage_stop, http, accounts };
    let outcome = runtime.block_on(shutdown::run(parts, config.server.shutdown_timeout, SWEEP_INTERVAL));
    drop(runtime);
    drop(embedded); // stops the private PostgreSQL, after everybody who used it
    outcome
}

fn dashboard_access(config: &Config) -> Access {
    match config.server.environment {
        Environment::Development => Access::Everyone,
        Environment::Staging | Environment::Production => {
            Access::Admins(config.security.admin_user_ids.iter().map(|id| UserId(*id as i64)).collect())
        }
    }
}

fn announce(config: &Config, workers: usize, started: Instant) {
    let address = config.server.bind_addr;
    tracing::info!(
        "listening on http://{address} with {workers} shards, ready after {} ms",
        started.elapsed().as_millis()
    );
    if config.server.environment != Environment::Development {
        return;
    }
    // For whoever has just typed `make run`; a log line would not be copied from.
    println!(
        r#"
Veza Chat Server is ready: http://{address}   (WebSocket: ws://{address}/ws)

Open http://{address} in a browser to chat. Or register a user, make a room, say hello from here:

  TOKEN=$(curl -s http://{address}/auth/register -H 'content-type: application/json' -d '{{"username":"ada","email":"ada@example.org","password":"correct horse battery"}}' | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
  ROOM=$(curl -s http://{address}/api/commands -H "authorization: Bearer $TOKEN" -d '{{"type":"create_conversation","data":{{"kind":"public_room","name":"lobby"}}}}' | sed 's/.*"id":"\(room_[0-9]*\)".*/\1/')
  curl -s http://{address}/api/commands -H "authorization: Bearer $TOKEN" -d '{{"type":"send_message","data":{{"conversation_id":"'$ROOM'","content":"hello"}}}}'

Watch it work: http://{address}/dashboard   Ctrl-C stops it."#
    );
}
