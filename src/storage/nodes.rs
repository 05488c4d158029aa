//! What the cluster thread reads from PostgreSQL.

use super::accounts::Accounts;
use super::accounts::security_events::TAIL_ROWS;
use super::sql::nodes as sql;
use crate::audit::suspicion::Act;
use crate::error::Refusal;
use crate::ids::{ConversationId, Seq, SessionId, UserId};
use crate::mesh::event::MembershipChange;
use tokio_postgres::Row;

/// Handle to what nodes read; cloning it is cheap.
#[derive(Clone, Debug)]
pub struct NodeStore(Accounts);

impl NodeStore {
    /// With connections of its own: they belong to the runtime that makes them.
    #[must_use]
    pub fn new(accounts: Accounts) -> Self {
        Self(accounts)
    }

    /// The newest events of these conversations.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn heads(&self, conversations: &[ConversationId]) -> Result<Vec<(ConversationId, Seq)>, Refusal> {
        let numbers: Vec<i64> = conversations.iter().map(|conversation| conversation.number()).collect();
        let read = |row: &Row| Ok((ConversationId::from_number(row.try_get(0)?), Seq(row.try_get(1)?)));
        let rows = self.0.rows("node_heads", false, (sql::HEADS, &[&numbers]), read).await?;
        Ok(rows.into_iter().filter_map(|(conversation, seq)| Some((conversation?, seq))).collect())
    }

    /// The number of servers that use this database.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn servers(&self) -> Result<usize, Refusal> {
        let read = |row: &Row| row.try_get(0).map(|count: i64| count as usize);
        let rows = self.0.rows("node_servers", false, (sql::SERVERS, &[]), read).await?;
        Ok(rows.first().copied().unwrap_or_default())
    }

    /// Up to where the audit trail was read by any server.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn trail_position(&self) -> Result<i64, Refusal> {
        self.0.security_progress().await
    }

    /// The rows of the audit trail after a position, and whether these are all.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn trail(&self, after: i64) -> Result<(Vec<Act>, bool), Refusal> {
        let acts = self.0.audit_tail(after).await?;
        let are_all = acts.len() < TAIL_ROWS as usize;
        Ok((acts, are_all))
    }

    /// Whether each of these users is a member of the conversation now.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn memberships(&self, pairs: &[(ConversationId, UserId)]) -> Result<Vec<MembershipChange>, Refusal> {
        let (conversations, users): (Vec<i64>, Vec<i64>) =
            pairs.iter().map(|(conversation, user)| (conversation.number(), user.0)).unzip();
        let read = |row: &Row| {
            let (user, number): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            let (joined, last): (Option<i64>, i64) = (row.try_get(2)?, row.try_get(3)?);
            let seq = Seq(joined.unwrap_or(last).max(1));
            let gained = joined.is_some();
            let conversation = ConversationId::from_number(number);
            Ok(conversation.map(|conversation| MembershipChange { user: UserId(user), conversation, seq, gained }))
        };
        let rows = self.0.rows("node_memberships", false, (sql::MEMBERSHIPS, &[&conversations, &users]), read).await?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// Sessions of these users that were revoked within the last hour.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn revoked_sessions(&self, users: &[UserId]) -> Result<Vec<SessionId>, Refusal> {
        let numbers: Vec<i64> = users.iter().map(|user| user.0).collect();
        let read = |row: &Row| row.try_get(0).map(SessionId);
        self.0.rows("node_revoked_sessions", false, (sql::REVOKED_SESSIONS, &[&numbers]), read).await
    }
}
