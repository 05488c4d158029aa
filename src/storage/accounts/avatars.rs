//! Pictures of users that were uploaded. Others are addresses in the profile.

use super::outcome::settle;
use super::{AccountProfile, Accounts, FieldChange, ProfileEdit, QUERY_TIMEOUT, audited, changed_profile};
use crate::audit::caller::Caller;
use crate::error::Refusal;
use crate::files::content::{ContentHash, ContentName};
use crate::storage::rows::Statement;
use crate::storage::sql::avatars as sql;
use serde_json::json;
use tokio::time::timeout;
use tokio_postgres::Row;

/// The result of an adoption.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Adopted {
    /// The user has the picture.
    Profile(AccountProfile),
    /// The content was released meanwhile. It has to be named and stored again.
    Released,
    /// The user is not active.
    Nobody,
}

impl Accounts {
    /// Names content that is about to be stored as the picture of a user.
    ///
    /// # Errors
    /// Failures of PostgreSQL, as for all functions here.
    pub async fn reserve_content(&self, hash: ContentHash, size: u64) -> Result<ContentName, Refusal> {
        let size = size as i64;
        let statement: Statement<'_> = (sql::NAME, &[&hash.0.as_slice(), &size]);
        let number = self.rows("reserve_content", false, statement, |row| row.try_get(0)).await?.pop();
        number.map(|number| ContentName { hash, number }).ok_or_else(Refusal::storage_unavailable)
    }

    /// Makes stored content the picture of the caller, at this address, in one transaction with the profile.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn adopt_avatar(&self, caller: &Caller, url: &str, content: ContentName) -> Result<Adopted, Refusal> {
        let mut connection = self.connection("adopt_avatar").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            let statement = transaction.prepare_cached(sql::ADOPT).await?;
            let hash = content.hash.0.as_slice();
            let row = transaction.query_one(&statement, &[&caller.user.0, &url, &hash, &content.number]).await?;
            if !row.try_get::<_, bool>(0)? {
                return Ok(Adopted::Released);
            }
            let edit = ProfileEdit { avatar_url: FieldChange::Set(url), ..ProfileEdit::default() };
            let changed = changed_profile(&transaction, caller, edit, &mut false).await?;
            let Some(profile) = changed else { return Ok(Adopted::Nobody) };
            in_doubt = true;
            transaction.commit().await?;
            Ok(Adopted::Profile(profile))
        })
        .await;
        settle(connection, "adopt_avatar", in_doubt, outcome)
    }

    /// The name and the bytes of the picture at this address, if its user still shows it.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn avatar(&self, url: &str) -> Result<Option<(ContentName, u64)>, Refusal> {
        let read = |row: &Row| {
            let (hash, number, size): (&[u8], i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let hash = hash.try_into().ok().map(ContentHash);
            Ok(hash.map(|hash| (ContentName { hash, number }, size.try_into().unwrap_or(0))))
        };
        Ok(self.read_rows("avatar", (sql::CONTENT, &[&url]), read).await?.pop().flatten())
    }

    /// Records that the caller sent a picture with a virus.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn note_infected_avatar(&self, caller: &Caller, reason: &str) -> Result<(), Refusal> {
        let mut connection = self.connection("note_infected_avatar").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            let row = json!({
                "target_type": "user", "target_id": caller.user, "reason": reason,
                "details": { "after": { "file_state": "infected" } },
            });
            audited::append_of(&transaction, caller, "refuse_avatar", row).await?;
            transaction.commit().await
        })
        .await;
        settle(connection, "note_infected_avatar", true, outcome)
    }
}
