//! The I/O shard's loop: passes requests from every shard's lanes to committers and readers.

use super::StorageError;
use super::backlog::CommitBacklog;
use super::bell::BellWaiter;
use super::committer::{Committer, Place};
use super::connect::Target;
use super::health::StorageHealth;
use super::indexer::Indexer;
use super::installer;
use super::reads::Reads;
use crate::latency::{CONVERSATION_COMMITTERS, CommitQueue, StorageLatencies};
use crate::mesh::lane::Mesh;
use crate::mesh::overload::Overload;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    let (indexer, touched) = Indexer::new(target.clone(), Arc::clone(&latencies));
    // The last committer creates conversations and does what belongs to none. That takes PostgreSQL much longer than a
    // message, and a flood of it must not delay messages. Nothing is sent to a conversation before it exists.
    let backlogs =
        [(CommitQueue::Conversations, CONVERSATION_COMMITTERS), (CommitQueue::Others, 1)].map(|(queue, committers)| {
            Arc::new(CommitBacklog::new(queue, committers, Arc::clone(&latencies), Arc::clone(&overload)))
        });
    let mut committers = Vec::new();
    for (number, health) in health.writers.iter().enumerate() {
        let of_others = usize::from(number >= CONVERSATION_COMMITTERS);
        let place = Place {
            backlog: Arc::clone(&backlogs[of_others]),
            at_backlog: number - of_others * CONVERSATION_COMMITTERS,
        };
        let latencies = Arc::clone(&latencies);
        let mut committer =
            Committer::new(place, target.clone(), Arc::clone(&mesh), Arc::clone(health), latencies, touched.clone());
        // Before anything else connects: if PostgreSQL allows few connections, the writers have theirs.
        committer.reconnect().await;
        committers.push(tokio::spawn(committer.run()));
    }
    reads.spawn();
    tokio::spawn(indexer.run());
    tokio::spawn(installer::keep(target));
    loop {
        let mut submitted = [false; CommitQueue::ALL.len()];
        for shard in mesh.placement.all() {
            let lanes = mesh.storage(shard);
            while let Some(mutation) = lanes.commits.pop() {
                let queue = CommitQueue::of(mutation.conversation.is_some()) as usize;
                submitted[queue] = true;
                backlogs[queue].push(mutation);
            }
            while let Some(request) = lanes.reads.pop() {
                reads.offer(request);
            }
        }
        for (backlog, _) in backlogs.iter().zip(submitted).filter(|(_, submitted)| *submitted) {
            backlog.wake();
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
    for backlog in &backlogs {
        backlog.close();
    }
    drop(touched);
    for committer in committers {
        if let Err(error) = committer.await {
            tracing::error!("a committer failed: {error}");
        }
    }
    Ok(())
}
