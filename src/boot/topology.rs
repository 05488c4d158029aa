//! Which threads there are, on which cores, and what the process may use.

use super::{BootError, system};
use crate::ids::ShardId;
use crate::latency::{Stage, StorageLatencies};
use crate::limits::SHARDS_MAX;
use crate::mesh::counters::ShardCounters;
use crate::mesh::lane::Mesh;
use crate::mesh::port::MeshPort;
use crate::net::{NetError, Sockets};
use crate::shard::real::SystemClock;
use crate::shard::{Shard, ShardSettings, pump};
use crate::storage::connect::Target;
use crate::storage::inlet::{self, StorageHealth};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Never, in effect. glommio 0.9 arms this timer before it looks for runnable tasks, and when the timer has fired by then
/// (the thread lost its core for that long) it takes the queue for empty and parks for ever, with the task in it
/// (docs/decisions/001). A shard's only task does not give its core back, so there is nothing to preempt it for.
const PREEMPT: Duration = Duration::from_hours(1);
/// How long a shard may take until it turns.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Memory that glommio registers for file I/O, which a shard does none of.
const EXECUTOR_IO_MEMORY_BYTES: usize = 256 * 1024;

/// One thread's end: a shard's, or the I/O shard's.
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
        n => Err(BootError::Configuration(format!("server.workers: {n} is more than the most, {SHARDS_MAX}"))),
    }
}

/// `io_uring` as the sockets use it needs Linux 6.1.
pub(super) fn check_kernel() -> Result<(), BootError> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) < (6, 1) => Err(BootError::Configuration(format!(
            "Linux 6.1 or newer is needed (multishot receive); this is {}",
            release.trim()
        ))),
        _ => Ok(()),
    }
}

/// Raises the soft limit on open files to the hard one; the connections that fit below it.
pub(super) fn raise_descriptor_limit(wanted: usize, reserved: u64) -> Result<usize, BootError> {
    let (_, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).map_err(|e| system("cannot read the limit on open files")(e.into()))?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
        .map_err(|e| system("cannot raise the limit on open files")(e.into()))?;
    let room = hard.saturating_sub(reserved) as usize;
    if wanted > room {
        tracing::warn!(
            "limits.max_connections is {wanted}, but this process may open {hard} files: {room} connections fit; raise \
             the limit on open files (ulimit -Hn, LimitNOFILE=) for more"
        );
    }
    Ok(wanted.min(room))
}

/// Starts the I/O shard.
pub(super) fn spawn_storage(
    mesh: Arc<Mesh>,
    target: Target,
    readers: usize,
    health: StorageHealth,
    latencies: Arc<StorageLatencies>,
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<Ended>, BootError> {
    let serve = move || -> Ended {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        // As a task: waking the future that `block_on` runs costs tokio a system call, even from its own thread.
        let serving = inlet::serve(mesh, target, readers, health, latencies, stop);
        let ended = runtime.block_on(async { tokio::spawn(serving).await });
        ended.map_err(|e| format!("the I/O shard ended badly: {e}"))?.map_err(|e| e.to_string())
    };
    std::thread::Builder::new().name("storage".to_owned()).spawn(serve).map_err(system("cannot start the I/O shard"))
}

/// Starts the shards, each pinned to a core; with more shards than cores they share them. Returns when all of them turn:
/// the kernel already queues connections for each, and a shard that never took them would not be noticed otherwise.
pub(super) fn spawn_shards(
    cores: &[usize],
    mesh: &Arc<Mesh>,
    settings: &Arc<ShardSettings>,
    counters: &[Arc<ShardCounters>],
    listeners: Vec<TcpListener>,
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
                let sockets = open_sockets(id, &mesh, &counters, listener).map_err(|e| e.to_string())?;
                let world = (sockets, MeshPort::new(id, mesh), SystemClock);
                let shard = Shard::new(id, settings, counters, world);
                let _ = begun.send(()); // nobody listens any more: the start has failed elsewhere
                drop(begun);
                pump::run(shard).map_err(|e| format!("shard {}: {e}", id.0))
            })
            .map_err(|e| {
                system(
                    "cannot start a shard's executor (io_uring must be allowed: kernel.io_uring_disabled = 0, and in \
                     containers a seccomp profile that permits it; and `ulimit -l` at least 512 KiB)",
                )(io::Error::other(e.to_string()))
            })?;
        shards.push(handle);
    }
    drop(begun);
    for _ in &shards {
        match starts.recv_timeout(START_TIMEOUT) {
            Ok(()) => {}
            // One has failed; it says why when it is joined.
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
    listener: TcpListener,
) -> Result<Sockets, NetError> {
    let doorbell = mesh.bell(id).duplicate().map_err(NetError::Doorbell)?;
    let mut sockets = Sockets::new(id, doorbell, Arc::clone(counters.stages.of(Stage::SocketWrite)))?;
    sockets.listen(listener);
    Ok(sockets)
}
