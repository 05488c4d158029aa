//! What requests and jobs of data rights share.

use super::super::commands::CommandFuture;
use super::super::patience::patiently;
use super::ledger::Ledger;
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
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// Erasures that are compared at a time.
const COMPARED: usize = 500;

/// The port to the owner shard of a conversation.
pub trait RightsPort: Send + Sync {
    /// Submits a mutation of the server's own, with `user` as its actor, to the log of a conversation.
    fn submit(&self, user: UserId, conversation: ConversationId, kind: &'static str, arguments: Value)
    -> CommandFuture;
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
    pub port: Arc<dyn RightsPort>,
    /// How long messages are kept on the whole server; `None` for no limit.
    pub retention: Option<Duration>,
    /// Notified when a profile has changed.
    pub profile_changes: Arc<Notify>,
    /// Time between two looks at what the ledger and its copies lack.
    pub ledger_interval: Duration,
}

/// The rights of people over their data; cloning shares it.
#[derive(Clone)]
pub struct DataRights {
    pub(super) parts: Arc<DataRightsParts>,
    pub(super) work: watch::Sender<u64>,
    /// When the ledger was completed last.
    completed_at: Arc<Mutex<Instant>>,
}

impl DataRights {
    /// Over these parts.
    #[must_use]
    pub fn new(parts: DataRightsParts) -> Self {
        Self { parts: Arc::new(parts), work: watch::Sender::new(0), completed_at: Arc::new(Mutex::new(Instant::now())) }
    }

    /// Compares the ledger with the database, at the start. What only the ledger has begins again: an older backup was
    /// restored. What only the database has is added to the ledger. Returns the sessions that were revoked.
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
        self.complete_ledger().await?;
        Ok(revoked)
    }

    /// Adds to the ledger, and to its copies, what only the database has: other nodes erase people too.
    ///
    /// # Errors
    /// Failures of PostgreSQL and of the disk.
    pub(super) async fn complete_ledger(&self) -> Result<(), Refusal> {
        let requests = self.requests();
        let mut after = String::new();
        loop {
            let some = requests.after(&after, COMPARED as i64).await?;
            let Some(last) = some.last() else { break };
            after.clone_from(&last.id);
            for record in &some {
                self.parts.ledger.add(record).await?;
            }
        }
        self.parts.ledger.complete_copies().await;
        Ok(())
    }

    pub(super) fn exports(&self) -> ExportRequests {
        ExportRequests::new(self.parts.accounts.clone())
    }

    pub(super) fn requests(&self) -> ErasureRequests {
        ErasureRequests::new(self.parts.accounts.clone())
    }

    /// Whether the ledger is to be completed again.
    pub(super) fn ledger_due(&self) -> bool {
        let mut completed_at = self.completed_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = completed_at.elapsed() >= self.parts.ledger_interval;
        if is_due {
            *completed_at = Instant::now();
        }
        is_due
    }

    /// There may be a job.
    pub(super) fn work_arrived(&self) {
        self.work.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) async fn tables(&self) -> Result<RightsTables, Refusal> {
        let opened = RightsTables::open(&self.parts.target).await;
        opened.map_err(|error| Refusal::new(ErrorCode::StorageUnavailable, error.to_string()))
    }
}

/// The id of an erasure or a copy: 32 hexadecimal digits that nobody can guess.
pub(super) fn new_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Submits a mutation of the server's own. What no longer exists needs none.
pub(super) async fn submit(
    rights: &DataRights,
    user: UserId,
    conversation: ConversationId,
    kind: &'static str,
    arguments: Value,
) -> Result<Value, Refusal> {
    match patiently(|| rights.parts.port.submit(user, conversation, kind, arguments.clone())).await {
        Ok(outcome) => Ok(serde_json::from_slice(&outcome).unwrap_or_default()),
        // The conversation or the message is gone, or the person has left it meanwhile.
        Err(refusal) if matches!(refusal.code, ErrorCode::NotFound | ErrorCode::NotMember) => Ok(Value::Null),
        Err(refusal) => Err(refusal),
    }
}
