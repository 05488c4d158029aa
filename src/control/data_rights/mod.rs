//! The rights of people over their data: erasure, a copy of everything, retention and legal holds.
//!
//! ```text
//!   routes.rs    DELETE /users/me, GET /erasures/{id}, DELETE /admin/users/{id}
//!   ledger.rs    the file that outlives the database
//!   erasure.rs   the job of an erasure
//!   export.rs    the job of a copy of all data
//!   archive.rs   a ZIP archive that grows
//!   page.rs      the pages in it
//!   holds.rs     /admin/holds
//!   retention.rs the job that removes old messages
//!   downloads.rs POST /users/me/exports, and the archive
//! ```
//!
//! Invariants:
//! - a person who has asked for erasure cannot sign in from the commit of the request on;
//! - whatever others see of an erasure is in the log of its conversation: deleted messages, changed texts, a member who
//!   left. So clients that were away learn of it, and `seq` has no gap;
//! - an erasure is in the ledger before anything is removed. So a backup that was made before it, and restored after it,
//!   does not bring the person back;
//! - nothing is removed that a legal hold keeps. The erasure goes on when the hold is released.

mod archive;
mod downloads;
mod erasure;
mod export;
mod holds;
pub mod ledger;
mod page;
mod retention;
mod routes;

pub(super) use routes::router;

use super::commands::CommandFuture;
use super::jobs::{JobEnd, JobWorker};
use crate::audit::erasure::ErasureRecord;
use crate::audit::note::AuditKey;
use crate::error::{ErrorCode, Refusal};
use crate::files::store::Store;
use crate::ids::{ConversationId, SessionId, UserId};
use crate::storage::accounts::Accounts;
use crate::storage::connect::Target;
use crate::storage::data_rights::RightsTables;
use crate::storage::data_rights::erasures::ErasureRequests;
use crate::storage::data_rights::exports::ExportRequests;
use crate::storage::jobs::Job;
use ledger::Ledger;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Copies that one statement of a sweep removes.
const EXPIRED: i64 = 100;
/// Erasures that are compared at a time.
const COMPARED: usize = 500;

/// The port to the owner shard of a conversation.
pub trait ErasurePort: Send + Sync {
    /// Submits a part of the erasure of `user`, a mutation of this kind, to the log of a conversation.
    fn erase(&self, user: UserId, conversation: ConversationId, kind: &'static str, arguments: Value) -> CommandFuture;
}

/// What [`DataRights`] is made of.
pub struct DataRightsParts {
    /// For connections as the owner.
    pub target: Target,
    /// The connections of requests.
    pub accounts: Accounts,
    /// The ledger.
    pub ledger: Ledger,
    /// The content of files, and of copies.
    pub store: Store,
    /// Signs receipts.
    pub key: AuditKey,
    /// The port to the shards.
    pub port: Arc<dyn ErasurePort>,
    /// How long messages are kept on the whole server; `None` for no limit.
    pub retention: Option<Duration>,
    /// Notified when a profile has changed.
    pub profile_changes: Arc<Notify>,
}

/// The rights of people over their data; cloning shares it.
#[derive(Clone)]
pub struct DataRights {
    parts: Arc<DataRightsParts>,
    work: watch::Sender<u64>,
}

impl DataRights {
    /// Over these parts.
    #[must_use]
    pub fn new(parts: DataRightsParts) -> Self {
        Self { parts: Arc::new(parts), work: watch::Sender::new(0) }
    }

    /// Compares the ledger with the database, at the start. What only the ledger has begins again: a backup was restored
    /// that is older. What only the database has is added to the ledger. Returns the sessions that were revoked.
    ///
    /// # Errors
    /// Failures of PostgreSQL and of the disk.
    pub async fn compare(&self, ledger: Vec<ErasureRecord>) -> Result<Vec<SessionId>, Refusal> {
        let (requests, mut revoked) = (self.requests(), Vec::new());
        for some in ledger.chunks(COMPARED) {
            let ids: Vec<String> = some.iter().map(|record| record.id.clone()).collect();
            let known = requests.known(&ids).await?;
            for record in some.iter().filter(|record| !known.contains(&record.id)) {
                let Some(requested) = requests.repeat(record).await? else { continue };
                if requested.is_new {
                    tracing::warn!(
                        "account {} is erased again: the ledger has its erasure, and this database was restored from \
                         an older backup",
                        record.user.0
                    );
                }
                revoked.extend(requested.revoked);
            }
        }
        let mut after = String::new();
        loop {
            let some = requests.after(&after, COMPARED as i64).await?;
            let Some(last) = some.last() else { return Ok(revoked) };
            after.clone_from(&last.id);
            for record in &some {
                self.parts.ledger.add(record).await?;
            }
        }
    }

    fn exports(&self) -> ExportRequests {
        ExportRequests::new(self.parts.accounts.clone())
    }

    fn requests(&self) -> ErasureRequests {
        ErasureRequests::new(self.parts.accounts.clone())
    }

    /// There may be a job.
    fn work_arrived(&self) {
        self.work.send_modify(|count| *count = count.wrapping_add(1));
    }

    async fn tables(&self) -> Result<RightsTables, Refusal> {
        let opened = RightsTables::open(&self.parts.target).await;
        opened.map_err(|error| Refusal::new(ErrorCode::StorageUnavailable, error.to_string()))
    }
}

/// Submits a mutation of the server's own. What no longer exists needs none.
async fn submit(
    rights: &DataRights,
    user: UserId,
    conversation: ConversationId,
    kind: &'static str,
    arguments: Value,
) -> Result<Value, Refusal> {
    match rights.parts.port.erase(user, conversation, kind, arguments).await {
        Ok(outcome) => Ok(serde_json::from_slice(&outcome).unwrap_or_default()),
        // The conversation or the message is gone, or the person has left it meanwhile.
        Err(refusal) if matches!(refusal.code, ErrorCode::NotFound | ErrorCode::NotMember) => Ok(Value::Null),
        Err(refusal) => Err(refusal),
    }
}

impl JobWorker for DataRights {
    fn work(&self) -> watch::Receiver<u64> {
        self.work.subscribe()
    }

    async fn work_on(&self, job: &Job) -> Result<JobEnd, Refusal> {
        match job.kind.as_str() {
            "erase_person" => erasure::run(self, &job.subject).await,
            "export_person" => export::run(self, &job.subject).await,
            "apply_retention" => retention::run(self).await,
            kind => Err(Refusal::new(ErrorCode::Internal, format!("There is no job {kind:?}."))),
        }
    }

    async fn sweep(&self) -> Result<(), Refusal> {
        while self.exports().expire(EXPIRED).await? == EXPIRED {}
        Ok(())
    }
}
