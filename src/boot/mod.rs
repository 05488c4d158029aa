//! Start and stop of the process.
pub mod logging;

use crate::config::Config;

/// Why the server could not start or had to stop.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BootError(String);

/// Runs the server until it is told to stop.
///
/// # Errors
/// When it cannot start.
pub fn serve(config: Config) -> Result<(), BootError> {
    drop(config);
    Err(BootError("not built yet".to_owned()))
}

/// Applies the migrations.
///
/// # Errors
/// When the database cannot be reached or a migration fails.
pub fn migrate(config: Config) -> Result<(), BootError> {
    drop(config);
    Err(BootError("not built yet".to_owned()))
}
