//! The files of the control plane, from the configuration.

use super::error::{BootError, system};
use super::secret;
use crate::config::{Config, FileScan};
use crate::control::files::antivirus::{Antivirus, ClamdAddress, ScanMode};
use crate::control::files::{FileParts, Files, FilesPort};
use crate::control::metrics::Metrics;
use crate::files::store::Store;
use crate::files::store::disk::Disk;
use crate::files::store::folder::Folder;
use crate::storage::accounts::Accounts;
use crate::storage::file_shares::ShareStore;
use crate::storage::files::{FileQuotas, FileStore};
use std::sync::Arc;

pub(super) fn files(
    config: &Config,
    disk: Disk,
    accounts: &Accounts,
    port: Arc<dyn FilesPort>,
    metrics: Metrics,
) -> Result<Files, BootError> {
    let (given, signed) = (&config.files, |number: u64| i64::try_from(number).unwrap_or(i64::MAX));
    let expiry_s = signed(given.expiry.as_secs());
    Ok(Files::new(FileParts {
        rows: FileStore::new(accounts.clone()),
        shares: ShareStore::new(accounts.clone()),
        has_public_links: given.public_links,
        store: store(config, disk)?,
        port,
        metrics,
        quotas: FileQuotas {
            unfinished_max: given.unfinished_uploads.into(),
            hour_max: given.uploads_per_hour.into(),
            user_bytes_max: signed(given.user_quota),
            total_bytes_max: signed(given.total_quota),
            lifetime_s: expiry_s,
            kept_s: expiry_s,
        },
        size_max: config.limits.max_file_size,
        allowed_types: given.allowed_types.clone(),
        antivirus: antivirus(config),
        keeps_originals: given.keep_originals,
        program: std::env::current_exe().map_err(system("cannot find this program"))?,
        links: secret::link_key(config)?,
        is_on: config.features.file_uploads,
    }))
}

pub(super) fn store(config: &Config, disk: Disk) -> Result<Store, BootError> {
    let folder = Folder::open(&config.data_dir.join("files"), config.files.keep_free);
    Ok(Store::in_folder(folder.map_err(system("cannot use data_dir/files"))?, disk))
}

fn antivirus(config: &Config) -> Option<Antivirus> {
    let mode = match config.files.scan {
        FileScan::Required => ScanMode::Required,
        FileScan::WhenAvailable => ScanMode::WhenAvailable,
        FileScan::Off => return None,
    };
    let address = config.files.clamd.as_deref().and_then(ClamdAddress::parse)?;
    Some(Antivirus::new(address, mode, config.limits.max_file_size))
}
