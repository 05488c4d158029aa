//! The checks of PostgreSQL without which the server does not start: version, durability, logins, row level security.
//!
//! What breaks otherwise: a crash would lose acknowledged messages, or one user would read the data of another.

use super::connect::{Role, Target};
use super::logins::{self, connect_as};
use super::{StorageError, sql};
use tokio_postgres::Client;

/// The oldest version that the server can use, as `server_version_num`.
const VERSION_MIN: i32 = 150_000;

/// Refuses a PostgreSQL that could lose what was acknowledged, or show one user another's data.
///
/// # Errors
/// [`StorageError::Unsafe`] with what to change.
pub async fn check(target: &Target) -> Result<(), StorageError> {
    for role in Role::ALL {
        let client = connect_as(target, role).await?;
        let settings = SafetySettings::read(&client).await?;
        settings.require_supported()?;
        settings.require_durable()?;
        check_role(&client, role).await?;
    }
    Ok(())
}

/// The settings of PostgreSQL that decide whether a commit survives a crash, as one connection has them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SafetySettings {
    fsync: String,
    synchronous_commit: String,
    full_page_writes: String,
    version: i32,
}

impl SafetySettings {
    /// Asks for them.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn read(client: &Client) -> Result<Self, StorageError> {
        let setup = |source| StorageError::Setup { what: "checking PostgreSQL's settings", source };
        let row = client.query_one(sql::SAFETY, &[]).await.map_err(setup)?;
        Ok(Self {
            fsync: row.try_get(0).map_err(setup)?,
            synchronous_commit: row.try_get(1).map_err(setup)?,
            full_page_writes: row.try_get(2).map_err(setup)?,
            version: row.try_get(3).map_err(setup)?,
        })
    }

    /// The version: `15.8`.
    #[must_use]
    pub fn version(&self) -> String {
        format!("{}.{}", self.version / 10_000, self.version % 10_000)
    }

    /// Refuses an old version.
    ///
    /// # Errors
    /// [`StorageError::Unsafe`].
    pub fn require_supported(&self) -> Result<(), StorageError> {
        if self.version < VERSION_MIN {
            let (needed, found) = (VERSION_MIN / 10_000, self.version / 10_000);
            return Err(StorageError::Unsafe(format!("PostgreSQL {needed} or newer is needed; this is {found}")));
        }
        Ok(())
    }

    /// Refuses settings with which a crash loses acknowledged messages.
    ///
    /// # Errors
    /// [`StorageError::Unsafe`] with what to change.
    pub fn require_durable(&self) -> Result<(), StorageError> {
        let (fsync, commit, pages) = (&self.fsync, &self.synchronous_commit, &self.full_page_writes);
        for (name, value) in [("fsync", fsync), ("synchronous_commit", commit), ("full_page_writes", pages)] {
            if value == "off" {
                return Err(StorageError::Unsafe(format!(
                    "PostgreSQL runs with {name} = off: a crash would lose acknowledged messages; set {name} = on"
                )));
            }
        }
        Ok(())
    }
}

/// Refuses a login with more rights than its role, and as the owner, tables that show users each other's data.
///
/// # Errors
/// [`StorageError::Unsafe`] with what to change.
pub async fn check_role(client: &Client, role: Role) -> Result<(), StorageError> {
    let setup = |source| StorageError::Setup { what: "checking row level security", source };
    logins::check(client, role).await?;
    if role == Role::Owner {
        let unforced = client.query(sql::UNFORCED_TABLES, &[]).await.map_err(setup)?;
        if let Some(row) = unforced.first() {
            let table: String = row.try_get(0).map_err(setup)?;
            return Err(StorageError::Unsafe(format!(
                "row level security is not forced on table {table}: run the migrations, or ALTER TABLE {table} \
                 ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> SafetySettings {
        let on = || "on".to_owned();
        SafetySettings { fsync: on(), synchronous_commit: on(), full_page_writes: on(), version: 150_008 }
    }

    #[test]
    fn refuses_versions_before_15() {
        assert!(settings().require_supported().is_ok());
        assert_eq!(settings().version(), "15.8");
        let old = SafetySettings { version: 140_019, ..settings() };
        assert!(old.require_supported().unwrap_err().to_string().contains("this is 14"));
    }

    #[test]
    fn refuses_each_setting_with_which_a_crash_loses_messages() {
        assert!(settings().require_durable().is_ok());
        let off = || "off".to_owned();
        for (name, settings) in [
            ("fsync", SafetySettings { fsync: off(), ..settings() }),
            ("synchronous_commit", SafetySettings { synchronous_commit: off(), ..settings() }),
            ("full_page_writes", SafetySettings { full_page_writes: off(), ..settings() }),
        ] {
            let error = settings.require_durable().unwrap_err().to_string();
            assert!(error.contains(&format!("set {name} = on")), "{error}");
        }
    }
}
