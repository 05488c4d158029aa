//! Runtimes, and the database of a command: as it runs, or started for the command.

use super::error::{BootError, system};
use super::secret::database_passwords;
use crate::config::Config;
use crate::storage::StorageError;
use crate::storage::connect::Target;
use crate::storage::embedded::{self, Embedded};

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

/// Runs `work` on the database: as it runs, or on the private PostgreSQL, started for it and stopped again.
pub(super) fn with_database<T>(
    config: &Config,
    work: impl AsyncFnOnce(&Target) -> Result<T, BootError>,
) -> Result<T, BootError> {
    if let Some(url) = &config.database.url {
        let target = Target::from_url(url.expose(), database_passwords(config)?)?;
        return runtime(1)?.block_on(work(&target)).map_err(|error| named(&target, error));
    }
    if let Some(running) = embedded::running(&config.data_dir) {
        return runtime(1)?.block_on(work(&running.target()));
    }
    if !embedded::is_initialised(&config.data_dir) {
        return Err(BootError::Configuration(format!(
            "there is no private PostgreSQL in {}: set data_dir or database.url to those of the server",
            config.data_dir.display()
        )));
    }
    tracing::info!("starting the private PostgreSQL in {}", config.data_dir.display());
    let started = Embedded::start(&config.data_dir)?;
    runtime(1)?.block_on(work(&started.target()))
}
