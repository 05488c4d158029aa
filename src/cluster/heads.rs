//! Compares the newest events of the followed conversations with PostgreSQL.
//!
//! A conversation is compared after its channel was subscribed to, and when one of its events did not fit into a lane.
//! All of them are compared regularly: now and then while every server on this database is heard through Redis, because
//! one may die between a commit and its publication, and often while one is not.

use super::shared::ClusterShared;
use crate::mesh::nodes::FromNodes;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// Between two comparisons of everything while a server is not heard through Redis.
const ALONE: Duration = Duration::from_secs(1);
/// The same while all are.
const LINKED: Duration = Duration::from_secs(3);
/// Between two looks at who is heard.
const LISTEN: Duration = Duration::from_millis(200);
/// Between two counts of the servers.
const COUNT: Duration = Duration::from_secs(1);
/// Before a read that failed, or that did not fit into a lane, is made again.
const RETRY: Duration = Duration::from_millis(200);

/// Reads heads for as long as the server runs.
pub(super) async fn run(shared: Arc<ClusterShared>) {
    let (mut compared_at, mut counted_at, mut servers) = (Instant::now(), Instant::now(), 1);
    let mut looks = interval(LISTEN);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shared.unchecked.notified() => {}
            _ = looks.tick() => {
                let is_linked = shared.status.is_up();
                if is_linked && counted_at.elapsed() >= COUNT {
                    counted_at = Instant::now();
                    // Without an answer the last number counts; the log has the reason.
                    servers = shared.store.servers().await.unwrap_or(servers);
                }
                let unheard = if is_linked { shared.heard().missing(servers, std::time::Instant::now()) } else { 0 };
                shared.status.unheard.store(unheard as u64, Relaxed);
                if compared_at.elapsed() < if is_linked && unheard == 0 { LINKED } else { ALONE } {
                    continue;
                }
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
