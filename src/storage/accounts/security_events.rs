//! Security events: what the detectors read, and where their findings go.

use super::audited::{append_of, row_of};
use super::outcome::settle;
use super::{Accounts, QUERY_TIMEOUT};
use crate::audit::caller::Caller;
use crate::audit::suspicion::{Act, AutomaticResponse, Finding, ResponsePolicy};
use crate::error::Refusal;
use crate::ids::{SessionId, UserId};
use crate::storage::sql::security_events as sql;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_postgres::{Error, Row};

/// Rows of the audit trail in one answer.
pub const TAIL_ROWS: i64 = 1_000;

impl Accounts {
    /// The position in the audit trail up to which the detectors have read.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn security_progress(&self) -> Result<i64, Refusal> {
        let connection = self.connection("security_progress").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::PROGRESS).await?;
            connection.query_one(&statement, &[]).await?.try_get(0)
        })
        .await;
        settle(connection, "security_progress", false, outcome)
    }

    /// The rows of the audit trail after a position, at most [`TAIL_ROWS`].
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn audit_tail(&self, after: i64) -> Result<Vec<Act>, Refusal> {
        let connection = self.connection("audit_tail").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::AUDIT_TAIL).await?;
            let rows = connection.query(&statement, &[&after, &TAIL_ROWS]).await?;
            rows.iter().map(act).collect::<Result<Vec<Act>, Error>>()
        })
        .await;
        settle(connection, "audit_tail", false, outcome)
    }

    /// Records findings with the responses to them, and how far the audit trail has been read. Returns the sessions
    /// that a response has revoked.
    ///
    /// # Errors
    /// Failures of PostgreSQL. Recording the same findings again counts them twice.
    pub async fn record_security_events(
        &self,
        found: &[Finding],
        responses: &ResponsePolicy,
        position: i64,
    ) -> Result<Vec<SessionId>, Refusal> {
        let row = |finding: &Finding| {
            let response = responses.to(finding);
            json!({
                "severity": finding.suspicion.severity().as_str(), "event_type": finding.suspicion.as_str(),
                "user_id": finding.user, "session_id": finding.session, "ip_address": finding.address,
                "details": finding.details, "dedupe_key": finding.key,
                "response": response.map(AutomaticResponse::as_str),
                "response_s": response.map(|response| response.lasts().as_secs()),
            })
        };
        let rows = Value::Array(found.iter().map(row).collect());
        let connection = self.connection("record_security_events").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::RECORD).await?;
            let revoked = connection.query(&statement, &[&rows, &position]).await?;
            revoked.iter().map(|row| row.try_get(0).map(SessionId)).collect::<Result<Vec<_>, Error>>()
        })
        .await;
        settle(connection, "record_security_events", true, outcome)
    }

    /// Ends the responses to a security event that are in force, for an administrator. Returns how many there were.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn end_event_responses(&self, event: i64, caller: &Caller) -> Result<i64, Refusal> {
        let row = row_of(caller, "end_response", json!({}));
        let connection = self.connection("end_event_responses").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::END_RESPONSES).await?;
            connection.query_one(&statement, &[&event, &row]).await?.try_get(0)
        })
        .await;
        settle(connection, "end_event_responses", true, outcome)
    }

    /// A page of the security events, newest first, for an administrator (`read/read_security_events.sql` describes the
    /// filter). The read is a row of the audit trail.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn read_security_events(&self, caller: &Caller, filter: Value) -> Result<Vec<Value>, Refusal> {
        let (mut connection, _permit) = self.read_connection("read_security_events").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            let statement = transaction.prepare_cached(sql::READ).await?;
            let rows = transaction.query(&statement, &[&filter]).await?;
            let events = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<Value>, Error>>()?;
            let row = json!({ "details": { "filter": filter, "shown": events.len() } });
            append_of(&transaction, caller, "read_security_events", row).await?;
            transaction.commit().await?;
            Ok(events)
        })
        .await;
        settle(connection, "read_security_events", false, outcome)
    }
}

fn act(row: &Row) -> Result<Act, Error> {
    Ok(Act {
        position: row.try_get(0)?,
        user: row.try_get::<_, Option<i64>>(1)?.map(UserId),
        action: row.try_get(2)?,
        target: row.try_get(3)?,
        conversation: row.try_get(4)?,
        details: row.try_get::<_, Option<Value>>(5)?.unwrap_or_default(),
        hashes: [row.try_get(6)?, row.try_get(7)?],
    })
}
