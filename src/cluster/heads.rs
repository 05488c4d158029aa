//! Compares the newest events of the followed conversations with PostgreSQL.
//!
//! A conversation is compared after its channel was subscribed to, when one of its events did not fit into a lane, and
//! all of them are compared regularly: often while Redis cannot be used, and now and then while it can, because a node
//! may die between a commit and its publication.

use super::shared::ClusterShared;
use crate::mesh::nodes::FromNodes;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// Between two comparisons of everything while Redis cannot be used.
const ALONE: Duration = Duration::from_secs(1);
/// The same while it can.
const LINKED: Duration = Duration::from_secs(3);
/// Before a read that failed, or that did not fit into a lane, is made again.
const RETRY: Duration = Duration::from_millis(200);

/// Reads heads for as long as the server runs.
pub(super) async fn run(shared: Arc<ClusterShared>) {
    let mut compared_at = Instant::now();
    loop {
        let pause = if shared.status.is_up() { LINKED } else { ALONE };
        tokio::select! {
            () = shared.unchecked.notified() => {}
            () = sleep_until(compared_at + pause) => {
                compared_at = Instant::now();
                shared.followed().check_all();
            }
        }
        shared.status.followed.store(shared.followed().len() as u64, Relaxed);
        while compare_some(&shared).await {}
    }
}

/// Compares the next chunk. False: nothing is left.
async fn compare_some(shared: &ClusterShared) -> bool {
    let some = shared.followed().next_unchecked();
    if some.is_empty() {
        return false;
    }
    let mut unread = Vec::new();
    match shared.store.heads(&some).await {
        Ok(heads) => {
            let unfit = heads
                .into_iter()
                .filter(|(conversation, seq)| !shared.to_shards.pass(FromNodes::Head(*conversation, *seq)));
            unread.extend(unfit.map(|(conversation, _)| conversation));
        }
        Err(_) => unread.extend_from_slice(&some), // the log has the reason
    }
    if !unread.is_empty() {
        for conversation in unread {
            shared.followed().check(conversation);
        }
        sleep(RETRY).await;
    }
    !shared.followed().has_checked_all()
}
