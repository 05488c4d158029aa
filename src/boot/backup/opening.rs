//! A backup that a command reads.

use super::super::error::BootError;
use super::super::files::backup_bucket;
use super::super::output::{ProgressLine, found, in_megabytes};
use crate::backup::BackupFault;
use crate::backup::open::{Inventory, OpenBackup};
use crate::backup::place::{BackupPlace, OpenPlace};
use crate::backup::seal::BackupIdentities;
use crate::config::Config;
use std::path::Path;

/// Opens a backup for reading.
pub(in crate::boot) async fn opened(
    config: &Config,
    place: &BackupPlace,
    identity: Option<&Path>,
) -> Result<OpenBackup, BootError> {
    let identities = identity.map(BackupIdentities::read).transpose()?;
    let place = match place {
        BackupPlace::Folder(path) => OpenPlace::folder(path)?,
        BackupPlace::Bucket { bucket, prefix } => OpenPlace::Bucket(backup_bucket(config, bucket, prefix)?),
    };
    Ok(OpenBackup::open(place, identities).await?)
}

/// Refuses an encrypted backup without an identity.
pub(in crate::boot) fn require_identity(backup: &OpenBackup) -> Result<(), BootError> {
    if backup.about.is_some() {
        return Ok(());
    }
    let advice = "the backup is encrypted; give --identity FILE, or with verify --checksums for the checksums alone";
    Err(BackupFault::Unfit(advice.to_owned()).into())
}

/// Reads every part, and prints what is wrong.
pub(in crate::boot) async fn checked(backup: &OpenBackup) -> Result<Inventory, BootError> {
    let mut progress = ProgressLine::new();
    let parts = backup.manifest.parts;
    let checked = backup
        .check(
            |sentence| found(&sentence),
            |part, bytes| {
                progress.show(|| format!("{part} of {parts} parts read, {}", in_megabytes(bytes)));
            },
        )
        .await;
    progress.clear();
    Ok(checked?)
}
