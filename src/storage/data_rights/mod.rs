//! What the rights of a person need of PostgreSQL: erasures, copies of all data, retention and legal holds.
//!
//! Jobs use a connection as the owner, [`RightsTables`], because some tables are closed to every other role. It is
//! opened for a job and closed behind it.

pub mod erasures;
pub mod exports;
pub mod holds;
pub mod ranges;
pub mod retention;

use super::StorageError;
use super::connect::{Role, Target, connect};
use super::sql::data_rights as sql;
use crate::error::{ErrorCode, Refusal};
use tokio_postgres::{Client, Error};

/// A connection as the owner, with a rule set.
pub struct RightsTables {
    client: Client,
}

impl RightsTables {
    /// Connects.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn open(target: &Target) -> Result<Self, StorageError> {
        let client = connect(&target.config(Role::Owner)).await.map_err(StorageError::Connect)?;
        let chosen = client.execute(sql::BEGIN_SESSION, &[&target.rule_path(), &target.rule_set()]).await;
        chosen.map_err(|source| StorageError::Setup { what: "choosing the rule set", source })?;
        Ok(Self { client })
    }
}

/// For `map_err`: the step that failed. A job tries again.
fn setup(what: &'static str) -> impl FnOnce(Error) -> Refusal {
    move |error| {
        let source = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        Refusal::new(ErrorCode::StorageUnavailable, format!("{what}: {source}"))
    }
}
