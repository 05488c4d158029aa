//! Public links to files: for people without an account. PostgreSQL has hashes of their tokens only.

use super::accounts::{Accounts, row_of};
use super::files::{ReadableFile, readable_row};
use super::rows::Statement;
use super::sql::files as sql;
use crate::audit::caller::Caller;
use crate::error::Refusal;
use crate::ids::{FileId, UserId};
use serde_json::json;
use time::OffsetDateTime;

/// A public link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileShare {
    /// Its number.
    pub id: i64,
    /// Who made it.
    pub user: UserId,
    /// When.
    pub created_at: OffsetDateTime,
    /// When it ends.
    pub expires_at: OffsetDateTime,
}

/// Handle to the table of public links; cloning it is cheap.
#[derive(Clone, Debug)]
pub struct ShareStore(Accounts);

impl ShareStore {
    /// With the connections of the accounts.
    #[must_use]
    pub fn new(accounts: Accounts) -> Self {
        Self(accounts)
    }

    /// Makes a link, and its row in the audit trail. Returns its number; `None` if the caller may not read the file.
    ///
    /// # Errors
    /// `conflict` if the file has too many; failures of PostgreSQL, as for all functions here.
    pub async fn share(
        &self,
        caller: &Caller,
        file: FileId,
        token_hash: &[u8; 32],
        life_s: i64,
    ) -> Result<Option<i64>, Refusal> {
        let row = row_of(caller, "share_file", json!({}));
        let statement: Statement<'_> = (sql::SHARE, &[&caller.user.0, &file.0, &token_hash.as_slice(), &life_s, &row]);
        Ok(self.0.rows("share_file", true, statement, |row| row.try_get(0)).await?.pop().flatten())
    }

    /// Revokes a link of the caller, or of a conversation that the caller moderates. Returns whether there was one.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn revoke(&self, caller: &Caller, file: FileId, share: i64) -> Result<bool, Refusal> {
        let row = row_of(caller, "revoke_share", json!({}));
        let statement: Statement<'_> = (sql::REVOKE_SHARE, &[&caller.user.0, &file.0, &share, &row]);
        self.0.is_true("revoke_share", true, statement).await
    }

    /// The links of a file that the user may read.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn list(&self, user: UserId, file: FileId) -> Result<Vec<FileShare>, Refusal> {
        let statement: Statement<'_> = (sql::SHARES, &[&user.0, &file.0]);
        let shares = self.0.read_rows("file_shares", statement, |row| {
            Ok(FileShare {
                id: row.try_get(0)?,
                user: UserId(row.try_get(1)?),
                created_at: row.try_get(2)?,
                expires_at: row.try_get(3)?,
            })
        });
        shares.await
    }

    /// The file of a link, if it is valid now.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn shared(&self, token_hash: &[u8; 32]) -> Result<Option<ReadableFile>, Refusal> {
        let statement: Statement<'_> = (sql::SHARED, &[&token_hash.as_slice()]);
        Ok(self.0.read_rows("shared_file", statement, readable_row).await?.pop())
    }
}
