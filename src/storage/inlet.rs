//! The I/O shard's loop: takes requests from every shard's lanes and gives them to committers and readers.

use super::StorageError;
use super::bell::BellWaiter;
use super::committer::Committer;
use super::connect::{Role, Target};
use super::indexer::Indexer;
use super::installer;
use super::readers;
use crate::ids::ConversationId;
use crate::latency::StorageLatencies;
use crate::limits::{COMMITS_IN_FLIGHT_PER_SHARD, READS_IN_FLIGHT_PER_SHARD};
use crate::mesh::frame::{Mutation, ReadRequest, ReadResult};
use crate::mesh::lane::Mesh;
use deadpool_postgres::Pool;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Mutex, mpsc};

/// Writing connections. A conversation always goes through the same one.
pub const COMMITTERS: usize = 2;

/// What the rest of the process may know of the I/O shard.
#[derive(Clone, Default)]
pub struct StorageHealth {
    /// Whether each committer has a working connection.
    pub committers: [Arc<AtomicBool>; COMMITTERS],
}

impl StorageHealth {
    /// Whether PostgreSQL takes writes as far as is known.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.committers.iter().all(|c| c.load(Ordering::Relaxed))
    }
}

/// Serves the lanes until `stop` is set and everything in flight has its outcome.
///
/// # Errors
/// [`StorageError`] when the loop cannot be set up.
pub async fn serve(
    mesh: Arc<Mesh>,
    target: Target,
    readers_max: usize,
    health: StorageHealth,
    latencies: Arc<StorageLatencies>,
    stop: Arc<AtomicBool>,
) -> Result<(), StorageError> {
    let pool = target.pool(Role::App, readers_max)?;
    let mut bell = BellWaiter::new(&mesh.storage_bell)
        .map_err(|e| StorageError::Pool(format!("the I/O shard's doorbell: {e}")))?;
    // Each shard bounds what it has in flight, so these can never be full.
    let capacity = mesh.placement.shards() * COMMITS_IN_FLIGHT_PER_SHARD;
    let (indexer, touched) = Indexer::new(target.clone());
    tokio::spawn(indexer.run());
    tokio::spawn(installer::keep(target.clone()));
    let mut committers = Vec::new();
    let mut senders = Vec::new();
    for healthy in &health.committers {
        let (sender, receiver) = mpsc::channel(capacity);
        healthy.store(true, Ordering::Relaxed);
        let committer = Committer::new(
            target.clone(),
            Arc::clone(&mesh),
            receiver,
            Arc::clone(healthy),
            Arc::clone(&latencies),
            touched.clone(),
        );
        committers.push(tokio::spawn(committer.run()));
        senders.push(sender);
    }
    // As many readers as connections: a read that waits is a box in a queue, not a task with its stack of futures.
    let (reads, reading) = mpsc::channel(mesh.placement.shards() * READS_IN_FLIGHT_PER_SHARD);
    let reading = Arc::new(Mutex::new(reading));
    for _ in 0..readers_max {
        tokio::spawn(serve_reads(Arc::clone(&mesh), pool.clone(), Arc::clone(&reading)));
    }
    loop {
        for shard in mesh.placement.all() {
            let lanes = mesh.storage(shard);
            while let Some(mutation) = lanes.commits.pop() {
                submit(&senders, mutation);
            }
            while let Some(request) = lanes.reads.pop() {
                if reads.try_send(request).is_err() {
                    tracing::error!("the queue of reads was full or gone: this is a fault of the server's, stopping");
                    std::process::abort();
                }
            }
        }
        mesh.storage_bell.about_to_sleep();
        let empty =
            mesh.placement.all().all(|s| mesh.storage(s).commits.is_empty() && mesh.storage(s).reads.is_empty());
        if empty && stop.load(Ordering::Acquire) {
            break;
        }
        if empty {
            bell.rung().await;
            mesh.storage_bell.awake();
        } else {
            mesh.storage_bell.awake();
            tokio::task::yield_now().await; // more came at once: committers and readers get their turn all the same
        }
    }
    drop((senders, touched));
    for committer in committers {
        if let Err(error) = committer.await {
            tracing::error!("a committer ended badly: {error}");
        }
    }
    Ok(())
}

fn submit(senders: &[mpsc::Sender<Box<Mutation>>], mutation: Box<Mutation>) {
    // Creations have no conversation yet and depend on nothing; they spread by their asker.
    let number = mutation.conversation.map_or(mutation.actor.0, ConversationId::number);
    let lane = (number as u64 >> 2) as usize % senders.len();
    if senders[lane].try_send(mutation).is_err() {
        tracing::error!("a committer's queue was full or gone: this is a fault of the server's, stopping");
        std::process::abort();
    }
}

/// One reader: takes the oldest waiting read, answers it, takes the next.
async fn serve_reads(mesh: Arc<Mesh>, pool: Pool, reading: Arc<Mutex<mpsc::Receiver<Box<ReadRequest>>>>) {
    loop {
        let request = reading.lock().await.recv().await;
        let Some(request) = request else { return };
        let answer = readers::read(&pool, &request).await;
        let shard = request.token.shard;
        let result = Box::new(ReadResult { token: request.token, answer });
        if mesh.storage(shard).results.try_push(result).is_err() {
            tracing::error!(
                "a reserved place for a read's result was taken: this is a fault of the server's, stopping"
            );
            std::process::abort();
        }
        mesh.bell(shard).ring();
    }
}
