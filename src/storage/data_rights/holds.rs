//! Legal holds.

use crate::audit::caller::Caller;
use crate::error::Refusal;
use crate::ids::{ConversationId, UserId};
use crate::storage::accounts::{Accounts, row_of};
use crate::storage::rows::Statement;
use crate::storage::sql::data_rights as sql;
use serde_json::{Value, json};
use tokio_postgres::types::Json as JsonColumn;

/// What a hold keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeldThing {
    /// Everything of a user.
    User(UserId),
    /// A conversation.
    Conversation(ConversationId),
}

/// Legal holds, over the connections of the accounts.
#[derive(Clone, Debug)]
pub struct HoldStore(Accounts);

impl HoldStore {
    /// With the connections of the accounts.
    #[must_use]
    pub fn new(accounts: Accounts) -> Self {
        Self(accounts)
    }

    /// Begins a hold, and returns it.
    ///
    /// # Errors
    /// `not_found`, `conflict`; failures of PostgreSQL, as for all functions here.
    pub async fn create(&self, held: HeldThing, reason: &str, caller: &Caller) -> Result<Option<Value>, Refusal> {
        let (user, conversation) = match held {
            HeldThing::User(user) => (Some(user.0), None),
            HeldThing::Conversation(conversation) => (None, Some(conversation.number())),
        };
        let row = JsonColumn(row_of(caller, "create_hold", json!({})));
        let statement: Statement<'_> = (sql::CREATE_HOLD, &[&user, &conversation, &reason, &row]);
        Ok(self.0.rows("create_hold", true, statement, |row| row.try_get(0)).await?.pop())
    }

    /// Ends a hold. Returns whether it was in force.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn release(&self, hold: i64, caller: &Caller) -> Result<bool, Refusal> {
        let row = JsonColumn(row_of(caller, "release_hold", json!({})));
        self.0.is_true("release_hold", true, (sql::RELEASE_HOLD, &[&hold, &caller.user.0, &row])).await
    }

    /// A page of holds before one of them, the newest first.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn page(&self, before: i64, limit: i64, caller: &Caller) -> Result<Vec<Value>, Refusal> {
        let row = JsonColumn(row_of(caller, "read_holds", json!({})));
        self.0.rows("read_holds", true, (sql::HOLDS, &[&before, &limit, &row]), |row| row.try_get(0)).await
    }
}
