//! `chat-server backup verify`: whether a backup could be restored, without a server and without a change of anything.
//!
//! 1. Every part has the checksum that was written with it.
//! 2. The dump is restored into a private PostgreSQL in a folder that goes afterwards.
//! 3. The tables have the rows that the snapshot had, the audit trail is whole and ends where the snapshot's did, and
//!    every content that a row needs is a part.

use super::super::audit::verify_chain;
use super::super::error::BootError;
use super::super::output::{found, in_megabytes, print};
use super::super::reach::{prepare, runtime};
use super::guarded::GuardedPostgres;
use super::opening::{checked, opened, require_identity};
use crate::audit::note::{AuditKey, AuditPublicKey};
use crate::backup::BackupFault;
use crate::backup::name::KeyFile;
use crate::backup::open::{Inventory, OpenBackup};
use crate::backup::place::BackupPlace;
use crate::backup::restore::{key_bytes, restore_database};
use crate::config::Config;
use crate::files::content::ContentHash;
use crate::ids::FileId;
use crate::storage::accounts::Accounts;
use crate::storage::audit::AuditTables;
use crate::storage::connect::{Role, Target};
use crate::storage::file_check::FileTables;
use std::path::PathBuf;

const ADVICE: &str = "keep it away from the good ones, and make another backup";

/// What `backup verify` is given.
pub struct VerifyBackupOptions {
    /// The backup.
    pub backup: BackupPlace,
    /// The secret keys of an encrypted one.
    pub identity: Option<PathBuf>,
    /// Only step 1, for a machine without PostgreSQL.
    pub checksums: bool,
    /// Where the folder of step 2 is made; the system's folder for temporary files if none is given.
    pub scratch: Option<PathBuf>,
}

/// Verifies a backup, and prints what is wrong with it.
///
/// # Errors
/// [`BootError::DamagedBackup`] if there is a finding; when something cannot be read or started.
pub fn verify_backup(config: &Config, options: &VerifyBackupOptions) -> Result<(), BootError> {
    let runtime = runtime(1)?;
    let (backup, inventory) = runtime.block_on(async {
        let backup = opened(config, &options.backup, options.identity.as_deref()).await?;
        if !options.checksums {
            require_identity(&backup)?;
        }
        let inventory = checked(&backup).await?;
        Ok::<_, BootError>((backup, inventory))
    })?;
    let mut findings = inventory.broken + inventory.broken_contents;
    // Without a whole dump and its key there is nothing to restore.
    let is_restored = !options.checksums && inventory.broken == 0;
    if is_restored {
        let parent = options.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let scratch = tempfile::Builder::new().prefix("chat-server-verify-").tempdir_in(&parent);
        let scratch = scratch.map_err(BackupFault::io(format!("cannot make a folder in {}", parent.display())))?;
        let data_dir = scratch.path().join("data");
        let postgres = GuardedPostgres::start(&data_dir, Some(scratch.path().to_owned()))?;
        let target = postgres.target()?;
        findings += runtime.block_on(compare(&backup, &inventory, &target))?;
        drop(runtime);
        drop(postgres);
    }
    if findings > 0 {
        return Err(BootError::DamagedBackup { findings, advice: ADVICE });
    }
    let (parts, read) = (backup.manifest.parts, in_megabytes(inventory.bytes));
    let rest = match &backup.about {
        Some(about) if is_restored => {
            let rows: i64 = about.tables.values().sum();
            format!(
                " Its database has {rows} rows in {} tables, and its audit trail {} rows.",
                about.tables.len(),
                about.audit.size
            )
        }
        _ => String::new(),
    };
    print(&format!("The backup is whole: {parts} parts with {read}.{rest}\n"));
    Ok(())
}

/// Restores the database into `target`, and compares it with the rest of the backup. Returns the number of findings.
async fn compare(backup: &OpenBackup, inventory: &Inventory, target: &Target) -> Result<u64, BootError> {
    let mut findings = 0;
    let mut finding = |sentence: String| {
        findings += 1;
        found(&sentence);
    };
    restore_database(backup, inventory, target).await?.into_iter().for_each(&mut finding);
    prepare(target, true).await?;
    audit_findings(backup, inventory, target).await?.into_iter().for_each(&mut finding);
    let tables = FileTables::new(Accounts::new(target.pool(Role::Writer, 1)?));
    for first in 0..=255 {
        for content in tables.contents(first).await.map_err(BootError::Refused)? {
            if !content.is_needed {
                continue;
            }
            match inventory.contents.get(&content.name) {
                None => finding(format!(
                    "Content {} is needed by a file, and is no whole part of the backup.",
                    content.name
                )),
                Some(part) if !backup.is_sealed() && part.size != content.size => {
                    finding(format!("Content {} has {} bytes instead of {}.", content.name, part.size, content.size));
                }
                Some(_) => {}
            }
        }
    }
    for file in tables.without_content().await.map_err(BootError::Refused)? {
        finding(format!("File {} is ready, and no content is named for it.", file.0));
    }
    for file in uploads_without_bytes(&tables, inventory).await? {
        // Nothing is wrong with the backup: it was an upload to another node, for instance.
        found(&format!("Note: the bytes of unfinished upload {} are not here; a restore ends it.", file.0));
    }
    Ok(findings)
}

/// What is wrong with the audit trail of a database that was restored.
pub(super) async fn audit_findings(
    backup: &OpenBackup,
    inventory: &Inventory,
    target: &Target,
) -> Result<Vec<String>, BootError> {
    let (report, _) = verify_chain(target, audit_key(backup, inventory).await?.as_ref(), None).await?;
    let mut findings = report.findings;
    if report.more > 0 {
        findings.push(format!("The audit trail has {} further findings.", report.more));
    }
    if let Some(about) = &backup.about {
        let expected = &about.audit;
        let tables = AuditTables::open(target).await?;
        let (log_id, head) = tables.head().await?;
        let root = ContentHash(head.root).to_string();
        if (&log_id, head.size, &root) != (&expected.log_id, expected.size, &expected.root) {
            findings.push(format!(
                "The audit trail ends with row {}, and that of the snapshot ended with another row {}.",
                head.size, expected.size
            ));
        }
    }
    Ok(findings)
}

/// The key that verifies the checkpoints of the audit trail.
async fn audit_key(backup: &OpenBackup, inventory: &Inventory) -> Result<Option<AuditPublicKey>, BootError> {
    let Some((_, part)) = inventory.keys.iter().find(|(key, _)| *key == KeyFile::AuditKey) else { return Ok(None) };
    let seed: Result<[u8; 32], _> = key_bytes(backup, part).await?.try_into();
    Ok(seed.ok().map(|seed| AuditKey::new(&seed).public()))
}

/// Unfinished uploads whose bytes the backup does not have.
pub(super) async fn uploads_without_bytes(
    tables: &FileTables,
    inventory: &Inventory,
) -> Result<Vec<FileId>, BootError> {
    let (mut after, mut without) = (FileId(0), Vec::new());
    loop {
        let page = tables.uploads(after, 500).await.map_err(BootError::Refused)?;
        let Some(last) = page.last() else { return Ok(without) };
        after = last.file;
        without.extend(page.iter().map(|upload| upload.file).filter(|file| !inventory.uploads.contains_key(file)));
    }
}
