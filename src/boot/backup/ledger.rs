//! The ledger of erasures beside backups: a backup that is older than an erasure must not bring the person back.
//!
//! `backup create` puts a copy of the ledger beside the backups of a folder, and the server adds later erasures to it.
//! `backup restore` takes the copy that is beside the backup, and those of `--erasures`. The restored server then
//! erases again who is in them.

use crate::audit::erasure::ErasureRecord;
use crate::audit::note::AuditKey;
use crate::backup::place::BackupPlace;
use crate::boot::error::{BootError, system};
use crate::boot::secret::audit_key;
use crate::config::Config;
use crate::control::data_rights::ledger::{LEDGER_FILE, merge, read, remember_place};
use std::path::{Path, PathBuf};

/// Copies the ledger beside the backups of a folder. A failure is a warning: the backup is complete without it.
pub(super) fn copy_beside(config: &Config, to: &BackupPlace) {
    let BackupPlace::Folder(folder) = to else {
        tracing::info!(
            "keep a copy of {} elsewhere too: `backup restore --erasures` needs it for a backup in a bucket",
            config.data_dir.join(LEDGER_FILE).display()
        );
        return;
    };
    let copied = audit_key(config, false).map_err(|error| error.to_string()).and_then(|key| {
        let Some(key) = key else { return Ok(()) };
        let records = read(&config.data_dir.join(LEDGER_FILE), &key).map_err(|error| error.to_string())?;
        merge(&folder.join(LEDGER_FILE), &key, &records).map_err(|error| error.to_string())?;
        remember_place(&config.data_dir, folder).map_err(|error| error.to_string())
    });
    if let Err(error) = copied {
        tracing::warn!(
            "the ledger of erasures was not copied to {}: {error}. Keep a copy of {} with the backups",
            folder.display(),
            config.data_dir.join(LEDGER_FILE).display()
        );
    }
}

/// The ledgers that belong to a backup.
pub(super) fn beside(backup: &BackupPlace, given: &[PathBuf]) -> Vec<PathBuf> {
    let beside = match backup {
        BackupPlace::Folder(folder) => folder.parent().map(|parent| parent.join(LEDGER_FILE)),
        BackupPlace::Bucket { .. } => None,
    };
    beside.into_iter().filter(|path| path.exists()).chain(given.iter().cloned()).collect()
}

/// Puts the erasures of these ledgers into the restored `data_dir`. Returns how many they are.
pub(super) fn restore(config: &Config, ledgers: &[PathBuf]) -> Result<usize, BootError> {
    if ledgers.is_empty() {
        return Ok(0);
    }
    let none = || BootError::Configuration("the backup has no audit_key, which verifies a ledger".to_owned());
    let key = audit_key(config, false)?.ok_or_else(none)?;
    let mut records = Vec::new();
    for path in ledgers {
        records.extend(readable(path, &key)?);
    }
    let path = config.data_dir.join(LEDGER_FILE);
    merge(&path, &key, &records).map_err(system("cannot write the ledger of erasures"))
}

fn readable(path: &Path, key: &AuditKey) -> Result<Vec<ErasureRecord>, BootError> {
    if !path.exists() {
        return Err(BootError::Configuration(format!("--erasures: {} does not exist", path.display())));
    }
    read(path, key).map_err(system("cannot use a ledger of erasures"))
}
