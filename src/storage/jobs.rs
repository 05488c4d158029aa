//! Jobs in PostgreSQL: work that outlives a restart. A process that takes a job holds a lease; when that ends, another
//! process takes the job. So every job can be repeated.

use super::accounts::Accounts;
use super::rows::Statement;
use super::sql::jobs as sql;
use crate::error::Refusal;
use crate::ids::UserId;
use time::OffsetDateTime;
use tokio_postgres::Row;

/// A job that this process has taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    id: i64,
    /// What is to be done.
    pub kind: String,
    /// About what.
    pub subject: String,
    /// How often it was begun, this time included.
    pub attempts: i32,
    /// Whose work it is, if it is a user's.
    pub owner: Option<UserId>,
    next_at: OffsetDateTime,
}

/// Handle to the table of jobs; cloning it is cheap.
#[derive(Clone, Debug)]
pub struct JobStore(Accounts);

impl JobStore {
    /// With the connections of the accounts.
    #[must_use]
    pub fn new(accounts: Accounts) -> Self {
        Self(accounts)
    }

    /// Takes a job of these kinds that is due, and of none of these users, for so many seconds.
    ///
    /// # Errors
    /// Failures of PostgreSQL, as for all functions here.
    pub async fn claim(&self, kinds: &[&str], passed_over: &[UserId], lease_s: i64) -> Result<Option<Job>, Refusal> {
        let users: Vec<i64> = passed_over.iter().map(|user| user.0).collect();
        let read = |row: &Row| {
            Ok(Job {
                id: row.try_get(0)?,
                kind: row.try_get(1)?,
                subject: row.try_get(2)?,
                attempts: row.try_get(3)?,
                next_at: row.try_get(4)?,
                owner: row.try_get::<_, Option<i64>>(5)?.map(UserId),
            })
        };
        Ok(self.0.rows("claim_job", false, (sql::CLAIM, &[&kinds, &users, &lease_s]), read).await?.pop())
    }

    /// Ends all leases. For a server that is alone on its database: a process that has ended holds them, and its jobs
    /// need not wait.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn end_leases(&self) -> Result<(), Refusal> {
        self.0.rows("end_leases", false, (sql::END_LEASES, &[]), |_| Ok(())).await.map(drop)
    }

    /// The process that has taken a job still works on it: its lease is so many seconds from now on. Returns whether it
    /// still has the job: otherwise the lease ended, and another process may have it.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn renew(&self, job: &Job, lease_s: i64) -> Result<bool, Refusal> {
        let lease = lease_s as f64;
        let statement: Statement<'_> = (sql::RENEW, &[&job.id, &job.attempts, &lease]);
        Ok(!self.0.rows("renew_job", false, statement, |_| Ok(())).await?.is_empty())
    }

    /// A job is done. It runs again if it was wanted again meanwhile, or if this fails.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn finish(&self, job: &Job) -> Result<(), Refusal> {
        let statement: Statement<'_> = (sql::FINISH, &[&job.id, &job.attempts, &job.next_at]);
        self.0.rows("finish_job", false, statement, |_| Ok(())).await.map(drop)
    }

    /// Reschedules a job. If it was wanted again meanwhile, it is due at once. If this fails, it runs again when its
    /// lease has ended.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn go_on(&self, job: &Job, pause_s: f64) -> Result<(), Refusal> {
        let statement: Statement<'_> = (sql::GO_ON, &[&job.id, &job.attempts, &job.next_at, &pause_s]);
        self.0.rows("job_goes_on", false, statement, |_| Ok(())).await.map(drop)
    }

    /// A job failed, and is tried again after a pause. If this fails too, it is tried again when its lease has ended.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn failed(&self, job: &Job, pause_s: f64, why: &str) -> Result<(), Refusal> {
        let statement: Statement<'_> = (sql::FAILED, &[&job.id, &job.attempts, &pause_s, &why]);
        self.0.rows("job_failed", false, statement, |_| Ok(())).await.map(drop)
    }
}
