//! Roles, tables and rule set. [`super::safety`] has the checks without which the server does not start.
//!
//! 1. The roles are created where they are missing, each with its login ([`logins`]).
//! 2. The table migrations that are missing are applied (`migrations/tables`), each in a transaction of its own.
//! 3. The rule set is installed where it is missing, and touched ([`installer`]).
//!
//! Invariant: tables change by expanding first and contracting later, so the previous version can run beside this one.
//! A database with table migrations that this version does not know is therefore accepted; one whose known migrations
//! differ is not.

use super::StorageError;
use super::connect::{Role, Target};
use super::installer::{self, UNUSED_AFTER};
use super::logins::{self, connect_as};
use super::rules::RuleSet;
use super::sql::rule_sets;
use std::collections::BTreeMap;
use std::fmt;
use tokio_postgres::Client;

mod embedded_sql {
    refinery::embed_migrations!("migrations/tables");
}

/// Brings the database to this version: roles, tables, rule set.
///
/// # Errors [`StorageError`] with PostgreSQL's message; [`StorageError::Schema`] for a database of an earlier
/// development version.
pub async fn migrate(target: &Target) -> Result<(), StorageError> {
    let set = RuleSet::embedded();
    // Held until the end: a second process that starts meanwhile waits, and then finds everything done.
    let login = target.connect_as_login().await?;
    login.batch_execute(rule_sets::LOCK_MIGRATION).await.map_err(|source| StorageError::Setup {
        what: "waiting for another process that migrates the database",
        source,
    })?;
    logins::prepare(target, &login).await?;
    let mut owner = connect_as(target, Role::Owner).await?;
    missing_tables(&owner).await?;
    // Migrations of a newer version that runs beside this one are not missing here.
    let runner = embedded_sql::migrations::runner().set_abort_missing(false);
    let report = runner.run_async(&mut owner).await?;
    for migration in report.applied_migrations() {
        tracing::info!("applied table migration {migration}");
    }
    installer::install(target, set).await?;
    installer::maintain(target, set).await?;
    drop(login);
    Ok(())
}

/// The table migrations of this version, in the order of their numbers and not of their names.
fn known_tables() -> Vec<refinery::Migration> {
    let mut migrations = embedded_sql::migrations::runner().get_migrations().clone();
    migrations.sort_by_key(refinery::Migration::version);
    migrations
}

/// The number of the newest table migration of this version.
#[must_use]
pub fn newest_table() -> i32 {
    known_tables().last().map_or(0, refinery::Migration::version)
}

/// The table migrations that are to be applied.
async fn missing_tables(owner: &Client) -> Result<Vec<String>, StorageError> {
    let setup = |source| StorageError::Setup { what: "reading which table migrations were applied", source };
    let mut applied = BTreeMap::new();
    let row = owner.query_one(rule_sets::HAS_HISTORY, &[]).await.map_err(setup)?;
    if row.try_get(0).map_err(setup)? {
        for row in owner.query(rule_sets::HISTORY, &[]).await.map_err(setup)? {
            let (version, name, checksum): (i32, String, String) =
                (row.try_get(0).map_err(setup)?, row.try_get(1).map_err(setup)?, row.try_get(2).map_err(setup)?);
            applied.insert(i64::from(version), (name, checksum));
        }
    }
    let mut missing = Vec::new();
    for migration in known_tables() {
        match applied.get(&i64::from(migration.version())) {
            None => missing.push(migration.to_string()),
            Some((name, checksum)) => {
                if name != migration.name() || *checksum != migration.checksum().to_string() {
                    return Err(StorageError::Schema(format!(
                        "the database was made by an earlier development version (its V{}__{name} is another one) and \
                         cannot be converted: start with an empty database or another data_dir; nothing was changed",
                        migration.version()
                    )));
                }
            }
        }
    }
    Ok(missing)
}

/// Refuses a database that lacks what [`migrate`] makes: for servers with `database.auto_migrate = false`.
///
/// # Errors
/// [`StorageError::Schema`] with what is missing and what to do.
pub async fn require_migrated(target: &Target) -> Result<(), StorageError> {
    let set = RuleSet::embedded();
    let owner = connect_as(target, Role::Owner).await?;
    let missing = missing_tables(&owner).await?;
    if let Some(first) = missing.first() {
        return Err(StorageError::Schema(format!(
            "the database lacks table migration {first}, and database.auto_migrate is false: run `chat-server migrate`"
        )));
    }
    if !installer::touch(target, set).await? {
        return Err(StorageError::Schema(format!(
            "the database lacks the rule set of this version, {}, and database.auto_migrate is false: run \
             `chat-server migrate`",
            set.name()
        )));
    }
    Ok(())
}

/// What [`migrate`] would change.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Table migrations to apply.
    pub tables: Vec<String>,
    /// The name of this version's rule set.
    pub set: String,
    /// Whether it is there already.
    pub is_installed: bool,
    /// The newest installed set, with which the files are compared: name, version, time.
    pub newest: Option<(String, String, String)>,
    /// Files that the newest installed set does not have.
    pub added: Vec<String>,
    /// Files that differ.
    pub changed: Vec<String>,
    /// Files that only the newest installed set has.
    pub removed: Vec<String>,
    /// Sets that would be dropped, because no process has used them for a day.
    pub dropped: Vec<String>,
}

impl Plan {
    /// The plan for a database that does not exist or is empty.
    #[must_use]
    pub fn for_empty() -> Self {
        let set = RuleSet::embedded();
        Self {
            tables: known_tables().iter().map(ToString::to_string).collect(),
            set: set.name().to_owned(),
            added: set.files().iter().map(|file| file.path.clone()).collect(),
            ..Self::default()
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, mark: &str, names: &[String]| {
            names.iter().try_for_each(|name| writeln!(f, "  {mark} {name}"))
        };
        match self.tables.as_slice() {
            [] => writeln!(f, "Tables: up to date.")?,
            tables => writeln!(f, "Tables: {} migrations would be applied:", tables.len())?,
        }
        list(f, "+", &self.tables)?;
        if self.is_installed {
            writeln!(f, "Rules: {} is installed.", self.set)?;
        } else {
            match &self.newest {
                None => writeln!(f, "Rules: {} would be installed, {} files.", self.set, self.added.len())?,
                Some((name, version, at)) => {
                    writeln!(f, "Rules: {} would be installed. Compared with {name} ({version}, {at}):", self.set)?;
                    list(f, "+", &self.added)?;
                    list(f, "~", &self.changed)?;
                    list(f, "-", &self.removed)?;
                }
            }
        }
        match self.dropped.as_slice() {
            [] => writeln!(f, "Unused rule sets: none would be dropped.")?,
            _ => writeln!(f, "Unused rule sets that would be dropped:")?,
        }
        list(f, "-", &self.dropped)?;
        if self.tables.is_empty() && self.is_installed && self.dropped.is_empty() {
            writeln!(f, "Nothing would change.")?;
        }
        Ok(())
    }
}

/// What [`migrate`] would change, without changing anything.
///
/// # Errors
/// [`StorageError`] as [`migrate`].
pub async fn plan(target: &Target) -> Result<Plan, StorageError> {
    let setup = |source| StorageError::Setup { what: "planning the migration", source };
    let set = RuleSet::embedded();
    let login = target.connect_as_login().await?;
    if !login.query_one(rule_sets::ROLES_EXIST, &[]).await.and_then(|row| row.try_get(0)).map_err(setup)? {
        return Ok(Plan::for_empty());
    }
    drop(login);
    let owner = connect_as(target, Role::Owner).await?;
    let tables = missing_tables(&owner).await?;
    let mut plan = Plan { tables, ..Plan::for_empty() };
    let row = owner.query_one(rule_sets::HAS_HISTORY, &[]).await.map_err(setup)?;
    if !row.try_get(1).map_err(setup)? {
        return Ok(plan);
    }
    let row = owner.query_one(rule_sets::IS_INSTALLED, &[&set.name()]).await.map_err(setup)?;
    plan.is_installed = row.try_get(0).map_err(setup)?;
    if let Some(row) = owner.query_opt(rule_sets::NEWEST_RULE_SET, &[]).await.map_err(setup)? {
        let [name, version, at] = [0, 1, 3].map(|column| row.try_get::<_, String>(column));
        plan.newest = Some((name.map_err(setup)?, version.map_err(setup)?, at.map_err(setup)?));
        let theirs: serde_json::Value = row.try_get(2).map_err(setup)?;
        compare(&mut plan, set, &theirs);
    }
    let unused = [&set.name() as _, &UNUSED_AFTER.as_secs_f64() as _];
    for row in owner.query(rule_sets::UNUSED_RULE_SETS, &unused).await.map_err(setup)? {
        plan.dropped.push(row.try_get(0).map_err(setup)?);
    }
    Ok(plan)
}

/// Compares the files of `set` with the digests of another one.
fn compare(plan: &mut Plan, set: &RuleSet, theirs: &serde_json::Value) {
    let ours = installer::digests(set);
    let paths = |digests: &serde_json::Value| -> Vec<String> {
        digests.as_object().map(|digests| digests.keys().cloned().collect()).unwrap_or_default()
    };
    (plan.added, plan.changed) = paths(&ours)
        .into_iter()
        .filter(|path| theirs.get(path) != ours.get(path))
        .partition(|path| theirs.get(path).is_none());
    plan.removed = paths(theirs).into_iter().filter(|path| ours.get(path).is_none()).collect();
}
