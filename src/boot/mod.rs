//! Start and stop of the process: the only module that uses every other one.
//!
//! Start: kernel and limits of the process → listening sockets → PostgreSQL (embedded or given), its reservation,
//! migrations, safety checks → I/O shard → shards → control plane on this thread. Stop is in [`shutdown`].
//!
//! Every resource that two servers must not share is reserved before anything is changed: the port first, then the data
//! directory or the database. A second server therefore refuses to start and leaves no trace.

mod audit;
mod audit_gap;
mod backup;
mod banner;
mod cluster;
mod data_rights;
mod doctor;
mod error;
mod examination;
mod export;
mod file_check;
mod files;
mod health;
mod hooks;
mod import;
mod listen;
pub mod logging;
mod output;
mod ports;
mod reach;
mod reload;
mod responses;
mod ring;
mod sealing;
mod secret;
mod settings;
mod shutdown;
mod signing_keys;
mod topology;

pub use crate::import::OldServer;
pub use audit::{print_checkpoint, print_key, verify_audit};
pub use backup::{
    BackupPlace, BackupRecipient, CreateBackupOptions, RestoreBackupOptions, VerifyBackupOptions, create_backup,
    restore_backup, verify_backup,
};
pub use doctor::diagnose;
pub use error::BootError;
pub use examination::examine_media;
pub use export::{ExportCommand, export_to_mattermost};
pub use file_check::{FileCheckOptions, check_files};
pub use health::{check_health, health_url};
pub use import::{ImportCommand, import_dump};
pub use signing_keys::{list_signing_keys, rotate_signing_keys};

use self::data_rights::RightsNeeds;
use self::error::system;
use self::hooks::HookThreads;
use self::logging::LoggingGuard;
use self::output::print;
use self::reach::{prepare, reached, runtime, with_database};
use self::reload::{ReloadParts, Reloader};
use crate::address::TrustedProxies;
use crate::auth::sealed::SealingKeys;
use crate::config::{Config, Environment, RegistrationProof, Sources};
use crate::control::announcer;
use crate::control::captcha::{Captcha, CaptchaSettings};
use crate::control::dashboard::Dashboard;
use crate::control::filter::{ContentFilter, FilterParts};
use crate::control::http::HttpServer;
use crate::control::metrics::Metrics;
use crate::control::observed::Observed;
use crate::control::places::Places;
use crate::control::security_watch::{SecurityWatch, WatchParts};
use crate::control::{Control, ControlParts, jobs, user_limits};
use crate::files::store::disk::DiskThreads;
use crate::latency::{QueueGauge, StorageLatencies};
use crate::limits::INTERNAL_CONNECTIONS_MAX;
use crate::mesh::counters::ShardCounters;
use crate::mesh::lane::Mesh;
use crate::mesh::overload::Overload;
use crate::mesh::placement::Placement;
use crate::mesh::quota::Quota;
use crate::shard::ShardSettings;
use crate::storage::accounts::Accounts;
use crate::storage::connect::{Role, Target};
use crate::storage::embedded::{self, Embedded};
use crate::storage::filter::FilterStore;
use crate::storage::health::StorageHealth;
use crate::storage::jobs::JobStore;
use crate::storage::migrate as migrations;
use crate::storage::migrate::Plan;
use crate::storage::server_lock::{self, ServerLock};
use crate::wire::command::Command;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Most threads that hash passwords; each keeps the 19 MiB that a hash needs.
const HASH_THREADS: usize = 2;
/// How often expired tickets and tokens are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// The target of connections to PostgreSQL, and the embedded one if this process runs it.
fn storage_of(config: &Config) -> Result<(Target, Option<Embedded>), BootError> {
    backup::refuse_unfinished_restore(config)?;
    let (target, embedded) = match &config.database.url {
        Some(url) => (Target::from_url(url.expose(), secret::database_passwords(config)?)?, None),
        None => {
            let embedded = Embedded::start(&config.data_dir)?;
            (embedded.target(), Some(embedded))
        }
    };
    let target = target.with_stranger_additions(config.security.stranger_additions_per_hour);
    Ok((target.with_mentions(config.features.user_mentions), embedded))
}

/// Applies the migrations.
///
/// # Errors
/// When the database cannot be reached or a migration fails.
pub fn migrate(config: &Config) -> Result<(), BootError> {
    let (target, _embedded) = storage_of(config)?; // until the end, or its PostgreSQL stops
    runtime(1)?.block_on(prepare(&target, true))?;
    tracing::info!("the database is up to date");
    Ok(())
}

/// Encrypts all secrets under the present key, and prints how many.
///
/// # Errors
/// When the database cannot be reached, or a secret does not open under the configured keys.
pub fn rotate_keys(config: &Config) -> Result<(), BootError> {
    let none = || BootError::Configuration("security.encryption_keys: there is no key; configure one".to_owned());
    let keys = secret::sealing_keys(config)?.ok_or_else(none)?;
    let rotated = with_database(config, async |target| {
        migrations::require_migrated(target).await?;
        sealing::rotate(&Accounts::new(target.pool(Role::Writer, 1)?), &keys).await
    })?;
    let text = format!("{rotated} secrets are now encrypted under the key {:?}\n", keys.current_id());
    print(&text);
    Ok(())
}

/// Prints what [`migrate`] would change, and changes nothing.
///
/// # Errors
/// When the database cannot be reached, or is not one that this version can use.
pub fn plan_migration(config: &Config) -> Result<(), BootError> {
    let plan = if config.database.url.is_none() && !embedded::is_initialised(&config.data_dir) {
        tracing::info!("there is no private PostgreSQL in {} yet; it would be made", config.data_dir.display());
        Plan::for_empty()
    } else {
        with_database(config, async |target| Ok(migrations::plan(target).await?))?
    };
    print(&plan.to_string());
    Ok(())
}

/// Runs the server until a signal stops it. `sources` are read again when it reloads.
///
/// # Errors
/// When it cannot start, or one of its threads ends early.
pub fn serve(config: &Config, sources: Sources, log: &LoggingGuard) -> Result<(), BootError> {
    let started = Instant::now();
    topology::check_kernel()?;
    ring::check()?;
    let places = config.security.geoip_database.as_deref().map(places).transpose()?;
    let cores = topology::cores()?;
    let workers = topology::workers(config.server.workers, cores.len())?;
    let room = topology::connection_room(config.limits.max_connections, workers, topology::other_connections(config))?;
    let (listeners, address) = listen::public(config.server.bind_addr, workers)?;
    let internal_listeners = match config.server.internal_addr {
        Some(address) => listen::listen(address, 1)?,
        None => Vec::new(),
    };

    let (target, embedded) = storage_of(config)?;
    let runtime = runtime(HASH_THREADS)?;
    let name = server_lock::name(address);
    let is_shared = cluster::is_shared(config);
    let lock = runtime.block_on(ServerLock::acquire(&target, &name, is_shared));
    runtime.spawn(reached(&target, lock)?.keep());
    runtime.block_on(prepare(&target, config.database.auto_migrate))?;
    let keys = signing_keys::token_keys(config)?;
    let key_ids: Vec<String> = keys.ids().map(str::to_owned).collect();
    let live_settings = settings::settings(config, keys, 0, room.websockets);
    let audit_key = secret::audit_key(config, true).unwrap_or_else(|error| {
        tracing::warn!("the audit trail is not signed, and its retention does not run: {error}");
        None
    });
    let mut audit_gap = None;
    if let Some(key) = audit_key.clone() {
        audit_gap = runtime.block_on(audit_gap::at_start(&target, &key, &config.data_dir));
        // Before the first change, so that its row finds the partition of its month.
        let due = runtime.block_on(audit::keep_partitions(&target, &key, &config.audit));
        runtime.spawn(audit::keep(target.clone(), key, config.clone(), due));
    }
    let sealing = secret::sealing_keys(config)?;
    let allows_two_factor = config.security.enable_2fa && sealing.is_some();
    let health = StorageHealth::default();
    let hook_threads = HookThreads::new(config, &target, health.clone(), sealing.as_ref())?;
    // Without a key nothing is encrypted, and nothing opens.
    let sealing = sealing.unwrap_or_else(|| SealingKeys::new((String::new(), rand::random()), Vec::new()));

    let disk_threads = DiskThreads::new().map_err(system("cannot start threads for files"))?;
    let file_store = runtime.block_on(files::ready_store(config, disk_threads.disk()))?;

    let mesh = Mesh::new(Placement::new(workers as u8), is_shared).map_err(system("cannot make the doorbells"))?;
    let storage_latencies = Arc::new(StorageLatencies::default());
    let overload = Arc::new(Overload::default());
    let storage_stop = Arc::new(AtomicBool::new(false));
    let storage = topology::spawn_storage(
        Arc::clone(&mesh),
        target.clone(),
        config.database.max_connections,
        health.clone(),
        (Arc::clone(&storage_latencies), Arc::clone(&overload)),
        Arc::clone(&storage_stop),
    )?;

    let accounts = Accounts::new(target.pool(Role::Writer, topology::ACCOUNT_CONNECTIONS)?);
    let commands = Arc::new(ports::Commands::new(Arc::clone(&mesh), runtime.handle().clone()));
    let filter = ContentFilter::new(FilterParts {
        store: FilterStore::new(accounts.clone()),
        port: Arc::clone(&commands) as _,
        is_on: config.security.content_filtering,
    });
    let rules = runtime.block_on(filter.load());
    let rules = rules.map_err(|refusal| BootError::Broken(format!("the content filter's rules: {refusal}")))?;

    let scans_files = Arc::new(AtomicBool::new(false));
    let settings = Arc::new(ShardSettings {
        networks: Quota::new(config.limits.max_connections_per_network),
        live: Arc::clone(&live_settings.live),
        loopback_origins: config.server.environment == Environment::Development,
        heartbeat_ms: config.server.heartbeat_interval.as_millis() as u64,
        trusted_proxies: config.trusted_proxies(),
        proxy_protocol: config.server.proxy_protocol,
        head_timeout_ms: config.server.connection_timeout.as_millis() as u64,
        message_timeout_ms: config.server.message_timeout.as_millis() as u64,
        deflate: config.features.compression,
        features: config.features.for_clients(),
        scans_files: Arc::clone(&scans_files),
        content_filtering: config.security.content_filtering,
        filter: rules,
        overload: Arc::clone(&overload),
        connections: Arc::new(AtomicUsize::new(0)),
        direct_sockets: Arc::default(),
        descriptors_max: room.descriptors,
        drained: AtomicUsize::new(0),
        started,
    });
    let counters: Vec<Arc<ShardCounters>> =
        (0..workers).map(|_| Arc::new(ShardCounters::new(&Command::NAMES))).collect();
    let trail_start = is_shared.then(|| runtime.block_on(cluster::trail_start(&accounts))).transpose()?;
    let shards = topology::spawn_shards(&cores, &mesh, &settings, &counters, (listeners, room.entries))?;

    runtime.block_on(sealing::report_unknown_keys(&accounts, &sealing));
    let state = Arc::new(shutdown::State::default());
    let hash_queue: Arc<QueueGauge> = Arc::default();
    let observed = Observed {
        shards: counters,
        storage: storage_latencies,
        overload: Arc::clone(&overload),
        hashing: Arc::clone(&hash_queue),
        started,
        log_drops: Some(log.dropped_lines()),
    };
    let health = Arc::new(ports::Health::new(Arc::clone(&state), health, observed.clone()));
    let metrics = Metrics::new(observed.clone()).map_err(|e| BootError::Configuration(format!("metrics: {e}")))?;
    metrics.show_filter(filter.tallies()).map_err(|e| BootError::Configuration(format!("metrics: {e}")))?;
    runtime.spawn(filter.clone().run());
    let dashboard = Dashboard::new(observed, Arc::clone(&health) as _);
    runtime.spawn(dashboard.clone().run());
    let profile_changes = Arc::new(Notify::new());
    runtime.spawn(announcer::run(accounts.clone(), Arc::clone(&commands) as _, Arc::clone(&profile_changes)));
    let notices = ports::notices(Arc::clone(&mesh), runtime.handle().clone());
    let cluster = trail_start.map(|start| cluster::spawn(config, (&mesh, &target), start, Arc::clone(&notices)));
    let cluster = cluster.transpose()?;
    let nodes = cluster.as_ref().map(cluster::ClusterThread::status);
    if let Some(nodes) = &nodes {
        metrics.show_nodes(Arc::clone(nodes)).map_err(|e| BootError::Configuration(format!("metrics: {e}")))?;
    }
    let watch = SecurityWatch::new(
        WatchParts {
            activity: Arc::clone(&mesh.activity),
            count: {
                let metrics = metrics.clone();
                Arc::new(move |finding| metrics.security_event(finding))
            },
            places,
        },
        live_settings.responses.clone(),
    );
    watch.report(audit_gap);
    let notify_revoked = Arc::clone(&notices);
    runtime.spawn(watch.clone().run(accounts.clone(), move |sessions| notify_revoked(sessions)));
    let files =
        files::files(config, file_store.clone(), &accounts, Arc::clone(&commands) as _, metrics.clone(), &scans_files)?;
    runtime.spawn(files.clone().probe_scanner());
    if !is_shared {
        // If this fails, the jobs wait until their leases expire.
        if let Err(refusal) = runtime.block_on(JobStore::new(accounts.clone()).end_leases()) {
            tracing::warn!(%refusal, "the leases of jobs could not be ended, so jobs wait for some seconds");
        }
    }
    for lane in [jobs::CHECKS, jobs::REMOVALS] {
        runtime.spawn(jobs::run(JobStore::new(accounts.clone()), files.clone(), lane));
    }
    if let Some(threads) = &hook_threads {
        let counts = Arc::clone(threads.hooks.counts());
        metrics.show_hooks(counts).map_err(|e| BootError::Configuration(format!("metrics: {e}")))?;
        threads.start(runtime.handle(), &mesh, &target)?;
    }
    let needs = RightsNeeds {
        target: &target,
        accounts: &accounts,
        store: file_store.clone(),
        port: Arc::clone(&commands) as _,
        profile_changes: &profile_changes,
        notices: &notices,
    };
    let data_rights = runtime.block_on(data_rights::start(config, audit_key, needs))?;
    if let Some(rights) = &data_rights {
        runtime.spawn(jobs::run(JobStore::new(accounts.clone()), rights.clone(), jobs::DATA_RIGHTS));
    }
    let reload_parts = ReloadParts {
        sources,
        level: log.level(),
        accounts: accounts.clone(),
        commands: Arc::clone(&commands),
        websockets: room.websockets,
    };
    let reloader = Reloader::new(reload_parts, config.clone(), key_ids);
    let control = Control::new(ControlParts {
        files,
        accounts: accounts.clone(),
        settings: live_settings,
        reload: Arc::new(reloader.clone()),
        bcrypt_cost: config.security.bcrypt_cost,
        sealing,
        allows_two_factor,
        registration_difficulty: match config.security.registration_proof {
            RegistrationProof::Off => 0,
            RegistrationProof::ProofOfWork => config.security.registration_difficulty,
        },
        captcha: captcha(config)?,
        hash_workers: cores.len().clamp(1, HASH_THREADS),
        hash_queue,
        limits: Arc::clone(&commands) as _,
        overload,
        commands,
        profile_changes,
        health,
        notices,
        nodes,
        watch,
        metrics,
        dashboard,
        filter,
        hooks: hook_threads.as_ref().map(|threads| threads.hooks.clone()),
        data_rights,
    });
    reloader.attach(control.clone());
    runtime.spawn(user_limits::run(control.clone()));
    let has_internal = config.server.internal_addr.is_some();
    let router = if has_internal { control.public_router() } else { control.router() };
    let health = control.health_router();
    let handle = runtime.handle().clone();
    // A proxy that names the client in a PROXY header passes the client's own header fields on.
    let proxies = if config.server.proxy_protocol { TrustedProxies::default() } else { config.trusted_proxies() };
    let http = HttpServer::new(router, health.clone(), handle.clone(), room.http, proxies);
    let internal =
        HttpServer::new(control.internal_router(), health, handle, INTERNAL_CONNECTIONS_MAX, TrustedProxies::default());
    for listener in internal_listeners {
        internal.listen(listener).map_err(system("cannot listen on server.internal_addr"))?;
    }
    tracing::info!(
        "listening on http://{address} with {workers} shards, ready after {} ms",
        started.elapsed().as_millis()
    );
    if config.server.environment == Environment::Development {
        // Not a log line, because commands are hard to copy from one.
        println!("{}", banner::text(address, config.server.internal_addr));
    }
    let on_hangup: Box<dyn Fn() + Send> = Box::new({
        let handle = runtime.handle().clone();
        move || {
            let reloader = reloader.clone();
            handle.spawn(async move { reloader.on_signal().await });
        }
    });
    let parts =
        shutdown::Parts { mesh, state, shards, storage, storage_stop, http, internal, control, accounts, on_hangup };
    let outcome = runtime.block_on(shutdown::run(parts, config.server.shutdown_timeout, SWEEP_INTERVAL));
    if matches!(outcome, Err(BootError::CutShort(_))) {
        // Dropping them would wait for their threads. The next start adopts the private PostgreSQL.
        std::mem::forget((runtime, disk_threads, hook_threads, embedded));
        return outcome;
    }
    if let Some(cluster) = cluster {
        cluster.stop();
    }
    drop(runtime);
    if let Some(threads) = hook_threads {
        threads.stop();
    }
    drop(disk_threads);
    drop(embedded); // stops the private PostgreSQL, after all of its clients
    outcome
}

/// The database of `security.geoip_database`.
fn places(path: &Path) -> Result<Places, BootError> {
    let places = Places::open(path).map_err(|reason| {
        BootError::Configuration(format!(
            "security.geoip_database: {} is no readable file in the MaxMind DB format: {reason}",
            path.display()
        ))
    })?;
    if !["City", "Enterprise", "Insights"].iter().any(|kind| places.kind().contains(kind)) {
        tracing::warn!(
            "security.geoip_database has a database of the kind {:?}. Impossible travel needs the coordinates of \
             cities, as in GeoLite2-City",
            places.kind()
        );
    }
    Ok(places)
}

fn captcha(config: &Config) -> Result<Option<Captcha>, BootError> {
    let security = &config.security;
    let (Some(verify_url), Some(secret), Some(site_key)) =
        (&security.captcha_verify_url, &security.captcha_secret, &security.captcha_site_key)
    else {
        return Ok(None);
    };
    let settings = CaptchaSettings {
        verify_url: verify_url.clone(),
        secret: secret.expose().to_owned(),
        site_key: site_key.clone(),
        script_url: security.captcha_script_url.clone(),
    };
    Captcha::new(settings).map(Some).map_err(|fault| BootError::Configuration(fault.to_string()))
}
