//! Runtimes, and the database of a command: as it runs, or started for the command.

use super::error::{BootError, system};
use super::secret::database_passwords;
use crate::config::{Config, SecretUrl};
use crate::storage::connect::{RolePassword, Target};
use crate::storage::embedded::{self, Embedded};
use crate::storage::migrate as migrations;
use crate::storage::{StorageError, safety};

/// A runtime for this thread, with so many threads for work that blocks.
pub(super) fn runtime(blocking_threads: usize) -> Result<tokio::runtime::Runtime, BootError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(blocking_threads)
        .build()
        .map_err(system("cannot start the runtime"))
}

/// Names PostgreSQL's address when it cannot be reached.
pub(super) fn reached<T>(target: &Target, result: Result<T, StorageError>) -> Result<T, BootError> {
    result.map_err(|source| named(target, source.into()))
}

fn named(target: &Target, error: BootError) -> BootError {
    match error {
        BootError::Storage(source @ StorageError::Connect(_)) => {
            BootError::Unreachable { address: target.address(), source }
        }
        error => error,
    }
}

/// Brings the database to this version, or refuses one of another; refuses logins and settings that are not safe.
pub(super) async fn prepare(target: &Target, migrate: bool) -> Result<(), BootError> {
    if migrate {
        reached(target, migrations::migrate(target).await)?;
    } else {
        reached(target, migrations::require_migrated(target).await)?;
    }
    reached(target, safety::check(target).await)
}

/// Runs `work` on the database: as it runs, or on the private PostgreSQL, started for it and stopped again.
pub(super) fn with_database<T>(
    config: &Config,
    work: impl AsyncFnOnce(&Target) -> Result<T, BootError>,
) -> Result<T, BootError> {
    if let Some(url) = &config.database.url {
        let target = Target::from_url(url.expose(), database_passwords(config)?)?;
        return runtime(1)?.block_on(work(&target)).map_err(|error| named(&target, error));
    }
    with_private_database(config, false, work)
}

/// The same for a login that reads every row: the superuser of the private PostgreSQL, or the one of a URL.
pub(super) fn with_whole_database<T>(
    config: &Config,
    url: Option<&str>,
    work: impl AsyncFnOnce(&Target) -> Result<T, BootError>,
) -> Result<T, BootError> {
    let Some(url) = url.or(config.database.url.as_ref().map(SecretUrl::expose)) else {
        return with_private_database(config, true, work);
    };
    let target = Target::from_url(url, [const { RolePassword::None }; 3])?;
    runtime(1)?.block_on(work(&target)).map_err(|error| named(&target, error))
}

fn with_private_database<T>(
    config: &Config,
    as_superuser: bool,
    work: impl AsyncFnOnce(&Target) -> Result<T, BootError>,
) -> Result<T, BootError> {
    if let Some(running) = embedded::running(&config.data_dir) {
        let target = if as_superuser { running.superuser_target() } else { running.target() };
        return runtime(1)?.block_on(work(&target));
    }
    if !embedded::is_initialised(&config.data_dir) {
        return Err(BootError::Configuration(format!(
            "there is no private PostgreSQL in {}: set data_dir or database.url to those of the server",
            config.data_dir.display()
        )));
    }
    tracing::info!("starting the private PostgreSQL in {}", config.data_dir.display());
    let started = Embedded::start(&config.data_dir)?;
    let target = if as_superuser { started.superuser_target() } else { started.target() };
    runtime(1)?.block_on(work(&target))
}
