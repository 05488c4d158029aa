//! The mark of a restore that has not ended. No server starts beside it.

use super::super::error::BootError;
use crate::config::Config;

/// In `data_dir` while a restore goes on. It stays if the restore does not end.
pub(in crate::boot) const UNFINISHED: &str = "restore_unfinished";

/// Refuses a folder in which a restore was cut short.
///
/// # Errors
/// What to do.
pub(in crate::boot) fn refuse_unfinished_restore(config: &Config) -> Result<(), BootError> {
    if !config.data_dir.join(UNFINISHED).exists() {
        return Ok(());
    }
    Err(BootError::Configuration(format!(
        "a restore into {} was cut short: empty that folder (and the database, with database.url), and restore again",
        config.data_dir.display()
    )))
}
