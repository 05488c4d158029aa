//! The jobs of data rights, for the one job runner.

use super::super::jobs::{JobEnd, JobWorker};
use super::state::DataRights;
use super::{erasure, export, retention};
use crate::error::{ErrorCode, Refusal};
use crate::storage::data_rights::retention::plan_retention;
use crate::storage::jobs::Job;
use tokio::sync::watch;

/// Copies that one statement of a sweep removes.
const EXPIRED: i64 = 100;

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
        if self.ledger_due() {
            self.complete_ledger().await?;
        }
        plan_retention(&self.parts.accounts, self.parts.retention.is_some()).await?;
        while self.exports().expire(EXPIRED).await? == EXPIRED {}
        Ok(())
    }
}
