//! The threads of the process, their cores, and the limits of the process.

use super::error::{BootError, system};
use super::{cluster, hooks};
use crate::config::Config;
use crate::ids::ShardId;
use crate::latency::{LatencyStage, StorageLatencies};
use crate::limits::{
    HEALTH_CONNECTIONS_MAX, HEALTH_HEADS_MAX, HTTP_CONNECTIONS_MAX, INTERNAL_CONNECTIONS_MAX, REFUSALS_PER_SHARD_MAX,
    SHARDS_MAX,
};
use crate::mesh::counters::ShardCounters;
use crate::mesh::lane::Mesh;
use crate::mesh::overload::Overload;
use crate::mesh::port::MeshPort;
use crate::net::{DirectTable, NetError, Sockets};
use crate::shard::real::SystemClock;
use crate::shard::{Shard, ShardSettings, pump};
use crate::storage::connect::Target;
use crate::storage::health::StorageHealth;
use crate::storage::inlet;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

/// So long that it never fires. glommio 0.9 arms this timer before it looks for runnable tasks. If the thread loses its
/// core for that long, glommio finds the timer fired, treats the queue as empty, and parks with the task in it
/// (docs/decisions/001). A shard has one task, so nothing needs the preemption.
const PREEMPT: Duration = Duration::from_hours(1);
/// A shard must run its first turn within this time.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Memory that glommio registers for file I/O. A shard does no file I/O, so this is the least it accepts.
const EXECUTOR_IO_MEMORY_BYTES: usize = 256 * 1024;

/// Descriptors of the server itself: the log, the data directory, the runtimes, the committers and the indexer, the
/// reservation of the database, and as many again for what libraries open for a moment.
const OWN_DESCRIPTORS: usize = 96;
/// Descriptors of one shard: its ring, its doorbell, its listener, and the executor's three rings; and its refusals.
const SHARD_DESCRIPTORS: usize = 24 + REFUSALS_PER_SHARD_MAX;
/// Connections to PostgreSQL for accounts.
pub(super) const ACCOUNT_CONNECTIONS: usize = 4;
/// From this kernel on, a socket leaves a ring's table at once (`net::DirectTable`).
const TABLE_KERNEL: (u32, u32) = (6, 13);
/// Entries of a table at the most: `IORING_MAX_FIXED_FILES` of the kernel.
const TABLE_ENTRIES_MAX: u32 = 1 << 20;
/// The server refuses to start if fewer clients than this fit.
const CLIENTS_MIN: usize = 64;

/// The result of a thread: a shard's, or the I/O shard's.
pub(super) type Ended = Result<(), String>;

/// The cores this process may run on.
pub(super) fn cores() -> Result<Vec<usize>, BootError> {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0))
        .map_err(|e| system("cannot read the process's cores")(e.into()))?;
    Ok((0..nix::sched::CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect())
}

/// The number of shards: as configured, or one per core less one for the I/O shard, at least one.
pub(super) fn workers(configured: usize, cores: usize) -> Result<usize, BootError> {
    match configured {
        0 => Ok(cores.saturating_sub(1).clamp(1, SHARDS_MAX)),
        n if n <= SHARDS_MAX => Ok(n),
        n => Err(BootError::Configuration(format!("server.workers: {n} is too large; set at most {SHARDS_MAX}"))),
    }
}

/// The release of the kernel. The sockets use `io_uring` features of Linux 6.1.
pub(super) fn check_kernel() -> Result<String, BootError> {
    let (release, version) = kernel();
    if version.is_some_and(|version| version < (6, 1)) {
        return Err(BootError::Configuration(format!(
            "Linux 6.1 or later is required (multishot receive of io_uring); this is {release}"
        )));
    }
    Ok(release)
}

/// The kernel's release, and its first two numbers if they can be read.
fn kernel() -> (String, Option<(u32, u32)>) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u32>().ok());
    let version = numbers.next().zip(numbers.next());
    (release.trim().to_owned(), version)
}

/// The most connections other than those of clients.
pub(super) fn other_connections(config: &Config) -> usize {
    let internal = config.server.internal_addr.map_or(0, |_| INTERNAL_CONNECTIONS_MAX);
    let hooks = if config.features.webhooks { hooks::DESCRIPTORS } else { 0 };
    config.database.max_connections + ACCOUNT_CONNECTIONS + internal + hooks + cluster::DESCRIPTORS
}

/// How many connections the process may hold, by kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ConnectionRoom {
    /// WebSockets, and request heads that are still being received.
    pub(super) websockets: usize,
    /// How many of them may have a descriptor of the process.
    pub(super) descriptors: usize,
    /// Entries of each ring's table of sockets; 0 where the descriptors suffice.
    pub(super) entries: u32,
    /// Connections of the control plane.
    pub(super) http: usize,
}

/// Raises the soft limit on open files to the hard one, and divides what it allows.
pub(super) fn connection_room(wanted: usize, workers: usize, database: usize) -> Result<ConnectionRoom, BootError> {
    let files = files_max()?;
    setrlimit(Resource::RLIMIT_NOFILE, files, files)
        .map_err(|e| system("cannot raise the limit on open files")(e.into()))?;
    let room = room_of(files, wanted, workers, database)?;
    if room.entries > 0 {
        tracing::info!(
            "this process may open {files} files, which is not enough for limits.max_connections; WebSockets are kept \
             in the tables of the rings, so {} fit",
            room.websockets
        );
    }
    if let Some(shortage) = room.shortage(files, wanted) {
        tracing::warn!("{shortage}");
    }
    Ok(room)
}

/// The hard limit on open files, to which a server raises its soft one.
pub(super) fn files_max() -> Result<u64, BootError> {
    let limits = getrlimit(Resource::RLIMIT_NOFILE);
    limits.map(|(_, hard)| hard).map_err(|e| system("cannot read the limit on open files")(e.into()))
}

/// Divides `files` descriptors of a server with so many shards, and `others` connections besides those of clients.
pub(super) fn room_of(files: u64, wanted: usize, workers: usize, others: usize) -> Result<ConnectionRoom, BootError> {
    let own = OWN_DESCRIPTORS + workers * SHARD_DESCRIPTORS + others;
    let room = divide(usize::try_from(files).unwrap_or(usize::MAX), own, wanted)?;
    Ok(if kernel().1.is_some_and(|version| version >= TABLE_KERNEL) {
        room.with_tables(files, wanted, workers)
    } else {
        room
    })
}

impl ConnectionRoom {
    /// The same, if the rings may have tables, of at most `files` entries each.
    fn with_tables(self, files: u64, wanted: usize, workers: usize) -> Self {
        if self.websockets >= wanted {
            return self;
        }
        let entries = files.min(wanted as u64).min(TABLE_ENTRIES_MAX.into()) as u32;
        let websockets = wanted.min(workers * entries as usize).max(self.websockets);
        Self { websockets, entries, ..self }
    }

    /// What to do if fewer WebSockets than `wanted` fit.
    pub(super) fn shortage(&self, files: u64, wanted: usize) -> Option<String> {
        let Self { websockets, .. } = self;
        (*websockets < wanted).then(|| {
            format!(
                "limits.max_connections is {wanted}, but this process may open {files} files: {websockets} connections \
                 fit; raise the limit on open files (ulimit -Hn, LimitNOFILE=) for more"
            )
        })
    }
}

/// Divides `files` descriptors: `own` for the server itself, some for health checks, the rest for clients,
/// of which HTTP gets an eighth.
fn divide(files: usize, own: usize, wanted: usize) -> Result<ConnectionRoom, BootError> {
    let fixed = own + HEALTH_CONNECTIONS_MAX + HEALTH_HEADS_MAX;
    let needed = fixed + CLIENTS_MIN;
    if files < needed {
        return Err(BootError::Configuration(format!(
            "this process may open {files} files, but the server needs at least {needed}; raise the limit on open \
             files (ulimit -n, LimitNOFILE=, or --ulimit nofile= for a container)"
        )));
    }
    let clients = files - fixed;
    let http = (clients / 8).min(HTTP_CONNECTIONS_MAX);
    let descriptors = clients - http;
    Ok(ConnectionRoom { websockets: wanted.min(descriptors), descriptors, entries: 0, http })
}

/// Starts the I/O shard.
pub(super) fn spawn_storage(
    mesh: Arc<Mesh>,
    target: Target,
    readers: usize,
    health: StorageHealth,
    measured: (Arc<StorageLatencies>, Arc<Overload>),
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<Ended>, BootError> {
    let serve = move || -> Ended {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        // As a task: waking the future that `block_on` runs costs tokio a system call, even from its own thread.
        let serving = inlet::serve(mesh, target, readers, health, measured, stop);
        let ended = runtime.block_on(async { tokio::spawn(serving).await });
        ended.map_err(|e| format!("the I/O shard panicked: {e}"))?.map_err(|e| e.to_string())
    };
    std::thread::Builder::new().name("storage".to_owned()).spawn(serve).map_err(system("cannot start the I/O shard"))
}

/// Starts the shards, each pinned to a core; shards beyond the number of cores share them. The table of each ring gets
/// `entries`. Returns when every shard runs: the kernel already queues connections for each, and they would wait
/// unnoticed behind a shard that never started.
pub(super) fn spawn_shards(
    cores: &[usize],
    mesh: &Arc<Mesh>,
    settings: &Arc<ShardSettings>,
    counters: &[Arc<ShardCounters>],
    (listeners, entries): (Vec<TcpListener>, u32),
) -> Result<Vec<ExecutorJoinHandle<Ended>>, BootError> {
    let mut shards = Vec::new();
    let (begun, starts) = mpsc::channel();
    for (index, (listener, counters)) in listeners.into_iter().zip(counters).enumerate() {
        let id = ShardId(index as u8);
        let (mesh, settings, counters) = (Arc::clone(mesh), Arc::clone(settings), Arc::clone(counters));
        let begun = begun.clone();
        let placement =
            cores.get(index % cores.len().max(1)).map_or(Placement::Unbound, |core| Placement::Fixed(*core));
        let handle = LocalExecutorBuilder::new(placement)
            .name("shard")
            .preempt_timer(PREEMPT)
            .io_memory(EXECUTOR_IO_MEMORY_BYTES)
            .spawn(move || async move {
                let table = DirectTable { entries, held: Arc::clone(&settings.direct_sockets) };
                let sockets = open_sockets(id, &mesh, &counters, (listener, table)).map_err(|e| e.to_string())?;
                let world = (sockets, MeshPort::new(id, mesh), SystemClock);
                let shard = Shard::new(id, settings, counters, world);
                let _ = begun.send(()); // fails only when the start has failed elsewhere
                drop(begun);
                pump::run(shard).map_err(|e| format!("shard {}: {e}", id.0))
            })
            .map_err(|e| {
                system("cannot start a shard's executor (`ulimit -l` must be at least 512 KiB)")(io::Error::other(
                    e.to_string(),
                ))
            })?;
        shards.push(handle);
    }
    drop(begun);
    for _ in &shards {
        match starts.recv_timeout(START_TIMEOUT) {
            Ok(()) => {}
            // A shard failed to start. Joining it yields the reason.
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                return Err(BootError::Broken(format!("a shard did not start within {START_TIMEOUT:?}")));
            }
        }
    }
    Ok(shards)
}

/// A shard's ring, listening.
fn open_sockets(
    id: ShardId,
    mesh: &Mesh,
    counters: &ShardCounters,
    (listener, table): (TcpListener, DirectTable),
) -> Result<Sockets, NetError> {
    let doorbell = mesh.bell(id).duplicate().map_err(NetError::Doorbell)?;
    let writes = Arc::clone(counters.stages.of(LatencyStage::SocketWrite));
    let mut sockets = Sockets::new(id, doorbell, writes, table)?;
    sockets.listen(listener);
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divides_the_descriptors_and_keeps_a_reserve() {
        let kept = HEALTH_CONNECTIONS_MAX + HEALTH_HEADS_MAX;
        let room = divide(20_000, 200, 100_000).unwrap();
        assert_eq!(room.websockets + room.http + 200 + kept, 20_000, "{room:?}");
        assert!(room.websockets > 15_000, "{room:?}");
        let room = divide(1 << 20, 200, 100_000).unwrap();
        assert_eq!((room.websockets, room.http, room.entries), (100_000, HTTP_CONNECTIONS_MAX, 0));
        assert_eq!(room.with_tables(1 << 20, 100_000, 2), room, "no table is needed");
    }

    #[test]
    fn tables_of_the_rings_hold_what_the_descriptors_cannot() {
        let room = divide(20_000, 200, 100_000).unwrap();
        for (workers, websockets) in [(1, 20_000), (3, 60_000), (5, 100_000), (8, 100_000)] {
            let with_tables = room.with_tables(20_000, 100_000, workers);
            assert_eq!(with_tables, ConnectionRoom { websockets, entries: 20_000, ..room });
            assert_eq!(with_tables.shortage(20_000, 100_000).is_some(), websockets < 100_000, "{workers}");
        }
        let small = divide(20_000, 200, 18_000).unwrap().with_tables(20_000, 18_000, 1);
        assert_eq!((small.entries, small.websockets), (18_000, 18_000), "no more than are wanted");
        let huge = divide(1 << 24, 200, 1 << 25).unwrap().with_tables(1 << 24, 1 << 25, 64);
        assert_eq!((huge.entries, huge.websockets), (TABLE_ENTRIES_MAX, 1 << 25));
    }

    #[test]
    fn names_the_number_of_descriptors_that_is_needed() {
        let needed = 200 + HEALTH_CONNECTIONS_MAX + HEALTH_HEADS_MAX + CLIENTS_MIN;
        let error = divide(needed - 1, 200, 10).unwrap_err().to_string();
        assert!(error.contains(&format!("at least {needed};")), "{error}");
        assert!(divide(needed, 200, 10).is_ok());
    }
}
