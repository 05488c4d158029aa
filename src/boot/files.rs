//! The files of the control plane, from the configuration.

use super::error::{BootError, system};
use super::secret;
use crate::config::{Config, ContentStore, FileScan};
use crate::control::files::antivirus::{Antivirus, ClamdAddress, ScanMode};
use crate::control::files::{FileParts, Files, FilesPort};
use crate::control::metrics::Metrics;
use crate::files::store::Store;
use crate::files::store::bucket::{Bucket, BucketSettings};
use crate::files::store::disk::Disk;
use crate::files::store::folder::Folder;
use crate::storage::accounts::Accounts;
use crate::storage::file_shares::ShareStore;
use crate::storage::files::{FileQuotas, FileStore};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::time::timeout;

/// How long the first look at the bucket may take.
const PROBE_TIME_MAX: Duration = Duration::from_secs(30);

pub(super) fn files(
    config: &Config,
    store: Store,
    accounts: &Accounts,
    port: Arc<dyn FilesPort>,
    metrics: Metrics,
    scans_files: &Arc<AtomicBool>,
) -> Result<Files, BootError> {
    let (given, signed) = (&config.files, |number: u64| i64::try_from(number).unwrap_or(i64::MAX));
    let expiry_s = signed(given.expiry.as_secs());
    Ok(Files::new(FileParts {
        rows: FileStore::new(accounts.clone()),
        shares: ShareStore::new(accounts.clone()),
        has_public_links: given.public_links,
        store,
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
        upload_rate: given.upload_rate,
        size_max: config.limits.max_file_size,
        allowed_types: given.allowed_types.clone(),
        antivirus: antivirus(config, Arc::clone(scans_files)),
        keeps_originals: given.keep_originals,
        program: std::env::current_exe().map_err(system("cannot find this program"))?,
        links: secret::link_key(config)?,
        is_shared: super::cluster::is_shared(config),
        is_on: config.features.file_uploads,
    }))
}

/// The folder, and the bucket if there is one. Connects to nothing yet.
pub(super) fn store(config: &Config, disk: Disk) -> Result<Store, BootError> {
    let folder = Folder::open(&config.data_dir.join("files"), config.files.keep_free);
    let folder = folder.map_err(system("cannot use data_dir/files"))?;
    Ok(match bucket(config)? {
        Some(bucket) => Store::in_bucket(folder, bucket, disk),
        None => Store::in_folder(folder, disk),
    })
}

/// The store, of which the server has seen that it can be used, and without what a crash has left in its bucket.
pub(super) async fn ready_store(config: &Config, disk: Disk) -> Result<Store, BootError> {
    let store = store(config, disk)?;
    in_time(PROBE_TIME_MAX, store.probe()).await?;
    Ok(store)
}

/// Whether a server could store content now; `None` without a bucket. A probe object is written and removed.
pub(super) async fn probe_bucket(config: &Config, time: Duration) -> Result<Option<()>, BootError> {
    let Some(bucket) = bucket(config)? else { return Ok(None) };
    in_time(time, async { bucket.probe().await.map_err(io::Error::other) }).await.map(Some)
}

async fn in_time(time: Duration, probe: impl Future<Output = io::Result<()>>) -> Result<(), BootError> {
    let probed = timeout(time, probe).await.unwrap_or_else(|_| {
        let seconds = time.as_secs();
        Err(io::Error::other(format!("no answer within {seconds} s; see whether files.s3_endpoint can be reached")))
    });
    probed.map_err(|error| BootError::Configuration(format!("the content of files cannot be stored: {error}")))
}

fn bucket(config: &Config) -> Result<Option<Bucket>, BootError> {
    let given = &config.files;
    let (ContentStore::S3, Some(name), Some(id), Some(secret)) =
        (given.store, &given.s3_bucket, &given.s3_access_key_id, &given.s3_secret_access_key)
    else {
        return Ok(None);
    };
    let bucket = Bucket::new(BucketSettings {
        bucket: name.clone(),
        prefix: given.s3_prefix.clone(),
        region: given.s3_region.clone(),
        endpoint: given.s3_endpoint.clone(),
        access_key_id: id.clone(),
        secret_access_key: secret.expose().to_owned(),
    });
    bucket.map(Some).map_err(system("cannot use files.s3_bucket"))
}

/// A bucket for backups: another one than that of the files, or another prefix, with the same access key.
pub(super) fn backup_bucket(config: &Config, name: &str, prefix: &str) -> Result<Bucket, BootError> {
    let given = &config.files;
    let (Some(id), Some(secret)) = (&given.s3_access_key_id, &given.s3_secret_access_key) else {
        return Err(BootError::Configuration(
            "a backup in a bucket needs files.s3_access_key_id and files.s3_secret_access_key, and the files.s3_region \
             and files.s3_endpoint of that bucket; files.store may be \"folder\""
                .to_owned(),
        ));
    };
    let bucket = Bucket::new(BucketSettings {
        bucket: name.to_owned(),
        prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
        region: given.s3_region.clone(),
        endpoint: given.s3_endpoint.clone(),
        access_key_id: id.clone(),
        secret_access_key: secret.expose().to_owned(),
    });
    bucket.map_err(system("cannot use the bucket of the backup"))
}

/// The virus scanner of the configuration, if there is one. It shows in `scans_files` whether all files are scanned.
pub(super) fn antivirus(config: &Config, scans_files: Arc<AtomicBool>) -> Option<Antivirus> {
    let mode = match config.files.scan {
        FileScan::Required => ScanMode::Required,
        FileScan::WhenAvailable => ScanMode::WhenAvailable,
        FileScan::Off => return None,
    };
    let address = config.files.clamd.as_deref().and_then(ClamdAddress::parse)?;
    Some(Antivirus::new(address, mode, config.limits.max_file_size, scans_files))
}
