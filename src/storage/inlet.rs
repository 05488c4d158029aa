//! The I/O shard's loop: passes requests from every shard's lanes to committers and readers.

use super::StorageError;
use super::bell::BellWaiter;
use super::committer::Committer;
use super::connect::Target;
use super::health::StorageHealth;
use super::indexer::Indexer;
use super::installer;
use super::reads::Reads;
use crate::faults::stop_process;
use crate::ids::ConversationId;
use crate::latency::{CONVERSATION_COMMITTERS, StorageLatencies};
use crate::limits::COMMITS_IN_FLIGHT_PER_SHARD;
use crate::mesh::frame::Mutation;
use crate::mesh::lane::Mesh;
use crate::mesh::overload::Overload;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;

/// Serves the lanes until `stop` is set and everything in flight has its outcome.
///
/// # Errors
/// [`StorageError`] when the loop cannot be set up.
pub async fn serve(
    mesh: Arc<Mesh>,
    target: Target,
    readers_max: usize,
    health: StorageHealth,
    (latencies, overload): (Arc<StorageLatencies>, Arc<Overload>),
    stop: Arc<AtomicBool>,
) -> Result<(), StorageError> {
    let measured = (Arc::clone(&latencies), Arc::clone(&overload));
    let reads = Reads::new(Arc::clone(&mesh), &target, readers_max, health.clone(), measured)?;
    let mut bell = BellWaiter::new(&mesh.storage_bell)
        .map_err(|e| StorageError::Pool(format!("the I/O shard's doorbell: {e}")))?;
    // Each shard bounds what it has in flight, so these can never be full.
    let capacity = mesh.placement.shards() * COMMITS_IN_FLIGHT_PER_SHARD;
    let (indexer, touched) = Indexer::new(target.clone(), Arc::clone(&latencies));
    let mut committers = Vec::new();
    let mut senders = Vec::new();
    for (number, health) in health.writers.iter().enumerate() {
        let (sender, receiver) = mpsc::channel(capacity);
        let mut committer = Committer::new(
            number,
            target.clone(),
            Arc::clone(&mesh),
            receiver,
            Arc::clone(health),
            (Arc::clone(&latencies), Arc::clone(&overload)),
            touched.clone(),
        );
        // Before anything else connects: if PostgreSQL allows few connections, the writers have theirs.
        committer.reconnect().await;
        committers.push(tokio::spawn(committer.run()));
        senders.push(sender);
    }
    reads.spawn();
    tokio::spawn(indexer.run());
    tokio::spawn(installer::keep(target));
    loop {
        for shard in mesh.placement.all() {
            let lanes = mesh.storage(shard);
            while let Some(mutation) = lanes.commits.pop() {
                submit(&senders, mutation);
            }
            while let Some(request) = lanes.reads.pop() {
                reads.offer(request);
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
            tokio::task::yield_now().await; // more arrived at once: committers and readers still get their turn
        }
    }
    drop((senders, touched));
    for committer in committers {
        if let Err(error) = committer.await {
            tracing::error!("a committer failed: {error}");
        }
    }
    Ok(())
}

fn submit(senders: &[mpsc::Sender<Box<Mutation>>], mutation: Box<Mutation>) {
    // The last committer creates conversations and does what belongs to none. That takes PostgreSQL much longer than a
    // message, and a flood of it must not delay messages. Nothing is sent to a conversation before it exists.
    let lane = match mutation.conversation.map(ConversationId::number) {
        Some(number) => (number as u64 >> 2) as usize % CONVERSATION_COMMITTERS,
        None => CONVERSATION_COMMITTERS,
    };
    if senders[lane].try_send(mutation).is_err() {
        stop_process("a committer's queue was full or closed");
    }
}
