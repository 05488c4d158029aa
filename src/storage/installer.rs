//! Rule sets in the database: installing the process's own, touching it, dropping unused ones.
//!
//! 1. At its start and hourly, a process touches the row of its set in `rule_sets`. It installs the set first when it
//!    is missing.
//! 2. Then it drops the sets that no process has touched for a day.
//!
//! Invariants:
//! - A set is installed whole or not at all: one transaction makes the schema, its objects, its triggers and its row.
//! - One process at a time installs or drops (an advisory lock), so that two new processes do not collide.
//! - No session waits long: a trigger is created or dropped under a lock of its table, so a transaction here gives up
//!   after [`LOCK_PATIENCE_MS`] in that queue, and is tried again.
//!
//! What breaks otherwise: writers of the other version would wait behind this process's wait for a lock.

use super::StorageError;
use super::connect::{Role, Target, connect};
use super::rules::{RuleFile, RuleSet, TRIGGERS};
use super::sql::rule_sets as sql;
use std::time::Duration;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Transaction};

/// How long a transaction waits for the lock of a table, in milliseconds. All later statements wait behind it.
const LOCK_PATIENCE_MS: u32 = 500;
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);
/// Attempts to install before the start fails: a minute.
const INSTALL_ATTEMPTS: u32 = 60;
/// Attempts to drop a set before the next hour tries again.
const DROP_ATTEMPTS: u32 = 3;
/// A set that no process has touched for this long is dropped.
pub const UNUSED_AFTER: Duration = Duration::from_hours(24);
/// How often a process touches its set.
const TOUCH_INTERVAL: Duration = Duration::from_hours(1);

/// Installs `set` unless it is there. Returns whether it was missing.
///
/// # Errors
/// [`StorageError::Rule`] names the file that PostgreSQL refuses.
pub async fn install(target: &Target, set: &RuleSet) -> Result<bool, StorageError> {
    let files = set.ordered()?;
    let mut owner = connect(&target.config(Role::Owner)).await.map_err(StorageError::Connect)?;
    let mut attempt = 1;
    loop {
        match try_install(&mut owner, set, &files).await {
            Err(error) if is_locked(&error) && attempt < INSTALL_ATTEMPTS => {
                tracing::info!("rule set {}: a table is locked; retrying ({attempt})", set.name());
                attempt += 1;
                tokio::time::sleep(PAUSE).await;
            }
            ended => return ended,
        }
    }
}

async fn try_install(owner: &mut Client, set: &RuleSet, files: &[&RuleFile]) -> Result<bool, StorageError> {
    let setup = |source| StorageError::Setup { what: "installing the rule set", source };
    let change = owner.transaction().await.map_err(setup)?;
    change.query(sql::LOCK_RULE_SETS, &[]).await.map_err(setup)?;
    if change.query_one(sql::IS_INSTALLED, &[&set.name()]).await.and_then(|row| row.try_get(0)).map_err(setup)? {
        return Ok(false);
    }
    bound_lock_waits(&change).await.map_err(setup)?;
    change.batch_execute(&sql::create_schema(set.name())).await.map_err(setup)?;
    // Bodies are checked when all objects exist; so the files need no order among functions that call each other.
    // Tables are locked last.
    let (triggers, others): (Vec<&RuleFile>, Vec<&RuleFile>) =
        files.iter().partition(|file| file.path.starts_with(TRIGGERS));
    for files in [others, triggers] {
        for file in &files {
            change.batch_execute(&set.installed_text(file)).await.map_err(refused(file))?;
        }
        change.query(sql::CHECK_BODIES, &[]).await.map_err(setup)?;
        for file in &files {
            for check in [sql::CHECK_SQL_BODY, sql::CHECK_PLPGSQL_BODY] {
                change.query(check, &[&set.name(), &file.name()]).await.map_err(refused(file))?;
            }
        }
    }
    change
        .execute(sql::INSERT_RULE_SET, &[&set.name(), &env!("CARGO_PKG_VERSION"), &digests(set)])
        .await
        .map_err(setup)?;
    change.commit().await.map_err(setup)?;
    tracing::info!("installed rule set {} ({} files)", set.name(), files.len());
    Ok(true)
}

/// Path → digest of every file.
#[must_use]
pub fn digests(set: &RuleSet) -> serde_json::Value {
    set.files().iter().map(|file| (file.path.clone(), serde_json::Value::from(file.digest()))).collect()
}

fn refused(file: &RuleFile) -> impl FnOnce(tokio_postgres::Error) -> StorageError {
    let path = file.path.clone();
    move |source| StorageError::Rule { path, source }
}

async fn bound_lock_waits(change: &Transaction<'_>) -> Result<(), tokio_postgres::Error> {
    change.query(sql::SET_LOCK_TIMEOUT, &[&LOCK_PATIENCE_MS.to_string()]).await.map(drop)
}

/// Whether another session held a table for too long.
fn is_locked(error: &StorageError) -> bool {
    let (StorageError::Rule { source, .. } | StorageError::Setup { source, .. }) = error else { return false };
    [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED].iter().any(|state| source.code() == Some(state))
}

/// Notes that `set` is in use. Returns false when it is not installed.
///
/// # Errors
/// PostgreSQL's.
pub async fn touch(target: &Target, set: &RuleSet) -> Result<bool, StorageError> {
    let setup = |source| StorageError::Setup { what: "noting the use of the rule set", source };
    let owner = connect(&target.config(Role::Owner)).await.map_err(StorageError::Connect)?;
    Ok(owner.execute(sql::TOUCH_RULE_SET, &[&set.name()]).await.map_err(setup)? > 0)
}

/// Drops the sets other than `own` that no process has touched for `unused`. Returns their names. A set whose tables
/// stay locked is left to the next call.
///
/// # Errors
/// PostgreSQL's.
pub async fn drop_unused(target: &Target, own: &RuleSet, unused: Duration) -> Result<Vec<String>, StorageError> {
    let setup = |source| StorageError::Setup { what: "dropping unused rule sets", source };
    let mut owner = connect(&target.config(Role::Owner)).await.map_err(StorageError::Connect)?;
    let seconds = unused.as_secs_f64();
    let rows = owner.query(sql::UNUSED_RULE_SETS, &[&own.name(), &seconds]).await.map_err(setup)?;
    let mut dropped = Vec::new();
    for row in rows {
        let name: String = row.try_get(0).map_err(setup)?;
        for attempt in 1..=DROP_ATTEMPTS {
            match try_drop(&mut owner, &name, seconds).await.map_err(setup) {
                Ok(true) => {
                    tracing::info!("dropped rule set {name}: no process has used it for a day");
                    dropped.push(name.clone());
                }
                Ok(false) => {}
                Err(error) if is_locked(&error) => {
                    tracing::info!("rule set {name} is not dropped yet: a table is locked ({attempt})");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error),
            }
            break;
        }
    }
    Ok(dropped)
}

/// Whether it was still unused, and is dropped.
async fn try_drop(owner: &mut Client, name: &str, seconds: f64) -> Result<bool, tokio_postgres::Error> {
    let change = owner.transaction().await?;
    change.query(sql::LOCK_RULE_SETS, &[]).await?;
    // The row's lock: a process that touches the set meanwhile waits, and then finds it gone.
    if change.execute(sql::DELETE_RULE_SET, &[&name, &seconds]).await? == 0 {
        return Ok(false);
    }
    bound_lock_waits(&change).await?;
    change.batch_execute(&sql::drop_schema(name)).await?;
    change.commit().await?;
    Ok(true)
}

/// Touches the process's set hourly and drops unused sets. A task of the I/O shard; it never ends by itself.
pub async fn keep(target: Target) {
    let set = RuleSet::embedded();
    loop {
        tokio::time::sleep(TOUCH_INTERVAL).await;
        if let Err(error) = maintain(&target, set).await {
            tracing::warn!("cannot maintain the rule sets; retrying in an hour: {error}");
        }
    }
}

/// One round: the process's own set is there and in use, and others that are not are dropped.
///
/// # Errors
/// PostgreSQL's.
pub async fn maintain(target: &Target, set: &RuleSet) -> Result<(), StorageError> {
    if !touch(target, set).await? {
        tracing::warn!("rule set {} was dropped while this process used it; reinstalling it", set.name());
        install(target, set).await?;
    }
    drop_unused(target, set, UNUSED_AFTER).await.map(drop)
}
