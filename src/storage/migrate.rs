//! Roles, schema and the checks without which the server does not start.

use super::connect::{Role, Target, connect};
use super::{StorageError, sql};

mod embedded_sql {
    refinery::embed_migrations!("migrations");
}

/// Creates the roles where they are missing and applies the migrations that are missing.
///
/// # Errors
/// [`StorageError`] with PostgreSQL's words.
pub async fn migrate(target: &Target) -> Result<(), StorageError> {
    let login = target.connect_as_login().await?;
    login.batch_execute(sql::CREATE_ROLES).await.map_err(|source| StorageError::Setup {
        what: "creating the roles chat_owner, chat_app and chat_writer (the user in database.url must be allowed to \
               create roles and grant them to itself, or an administrator creates and grants them once)",
        source,
    })?;
    drop(login);
    let mut owner = connect(&target.config(Role::Owner)).await.map_err(StorageError::Connect)?;
    let report = embedded_sql::migrations::runner().run_async(&mut owner).await?;
    for migration in report.applied_migrations() {
        tracing::info!("applied migration {migration}");
    }
    Ok(())
}

/// Refuses a PostgreSQL that could lose what was acknowledged, or show one user another's data.
///
/// # Errors
/// [`StorageError::Unsafe`] with what to change.
pub async fn check(target: &Target) -> Result<(), StorageError> {
    for role in [Role::Owner, Role::App, Role::Writer] {
        let client = connect(&target.config(role)).await.map_err(StorageError::Connect)?;
        let setup = |source| StorageError::Setup { what: "checking PostgreSQL's settings", source };
        let row = client.query_one(sql::SAFETY, &[]).await.map_err(setup)?;
        let (fsync, commit, pages): (String, String, String) =
            (row.try_get(0).map_err(setup)?, row.try_get(1).map_err(setup)?, row.try_get(2).map_err(setup)?);
        let (version, user, powerful): (i32, String, Option<bool>) =
            (row.try_get(3).map_err(setup)?, row.try_get(4).map_err(setup)?, row.try_get(5).map_err(setup)?);
        let refuse = |words: String| Err(StorageError::Unsafe(words));
        if version < 150_000 {
            return refuse(format!("PostgreSQL 15 or newer is needed; this is {}", version / 10_000));
        }
        for (name, value) in [("fsync", fsync), ("synchronous_commit", commit), ("full_page_writes", pages)] {
            if value == "off" {
                return refuse(format!(
                    "PostgreSQL runs with {name} = off: a crash would lose acknowledged messages; set {name} = on"
                ));
            }
        }
        if powerful != Some(false) {
            return refuse(format!(
                "the role {user} is a superuser or bypasses row level security: ALTER ROLE {user} NOSUPERUSER NOBYPASSRLS"
            ));
        }
        if role == Role::Owner {
            let unforced = client.query(sql::UNFORCED_TABLES, &[]).await.map_err(setup)?;
            if let Some(row) = unforced.first() {
                let table: String = row.try_get(0).map_err(setup)?;
                return refuse(format!(
                    "row level security is not forced on table {table}: run the migrations, or ALTER TABLE {table} \
                     ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
                ));
            }
        }
    }
    Ok(())
}
