//! The names of a user, of which a password must not be made.

use super::{Accounts, QUERY_TIMEOUT, settle, sql};
use crate::error::Refusal;
use crate::ids::UserId;
use tokio::time::timeout;

impl Accounts {
    /// The user's names and the parts of their address; empty when there is no such user.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn own_names(&self, user: UserId) -> Result<Vec<String>, Refusal> {
        let connection = self.connection("own_names").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::OWN_NAMES).await?;
            let row = connection.query_opt(&statement, &[&user.0]).await?;
            row.map_or(Ok(Vec::new()), |row| row.try_get(0))
        })
        .await;
        settle(connection, "own_names", false, outcome)
    }
}
