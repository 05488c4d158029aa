//! Restores what [`OpenBackup::check`] has found whole: the database, the keys and the files.

use super::BackupFault;
use super::create::Hashed;
use super::dump::{DumpPrograms, DumpSection};
use super::open::{Inventory, OpenBackup, OpenPart};
use super::place::private_file;
use crate::files::content::{ContentHash, ContentName};
use crate::files::store::Store;
use crate::ids::FileId;
use crate::storage::backup::{RowCounts, owned_rows};
use crate::storage::connect::Target;
use std::io::{self, Read, Write};
use std::path::Path;

/// Bytes that one read takes.
const READ_BYTES: usize = 256 * 1024;
/// Bytes of a key.
const KEY_BYTES_MAX: u64 = 4_096;

/// Restores the database. Returns a sentence for each table that has other rows than the snapshot had.
///
/// # Errors
/// Those of `pg_restore` and of the backup.
pub async fn restore_database(
    backup: &OpenBackup,
    inventory: &Inventory,
    target: &Target,
) -> Result<Vec<String>, BackupFault> {
    let programs = DumpPrograms::find()?;
    let Some(part) = &inventory.database else {
        return Err(BackupFault::Unfit("the database of the backup is missing or damaged; use another one".to_owned()));
    };
    let reading = || BackupFault::io("cannot read the dump of the database");
    programs.restore(target, DumpSection::Rows, backup.read(part).await.map_err(reading())?)?;
    // Before row level security is switched on, which would hide rows from their owner.
    let restored = owned_rows(target).await?;
    programs.restore(target, DumpSection::Rules, backup.read(part).await.map_err(reading())?)?;
    let nothing = RowCounts::new();
    let expected = backup.about.as_ref().map_or(&nothing, |about| &about.tables);
    let count = |counts: &RowCounts, table: &String| counts.get(table).map_or("none".to_owned(), i64::to_string);
    let tables = expected.keys().chain(restored.keys().filter(|table| !expected.contains_key(*table)));
    let differing = tables.filter(|table| expected.get(*table) != restored.get(*table));
    Ok(differing
        .map(|table| {
            let (has, had) = (count(&restored, table), count(expected, table));
            format!("Table {table} has {has} rows, and the snapshot had {had}.")
        })
        .collect())
}

/// Restores the keys, readable for this user only.
///
/// # Errors
/// The system's; `AlreadyExists` if there is such a key.
pub async fn restore_keys(backup: &OpenBackup, inventory: &Inventory, data_dir: &Path) -> Result<(), BackupFault> {
    for (key, part) in &inventory.keys {
        let bytes = key_bytes(backup, part).await?;
        let path = data_dir.join(key.file());
        private_file(&path)
            .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
            .map_err(BackupFault::io(format!("cannot write {}", path.display())))?;
    }
    Ok(())
}

/// The bytes of a key.
///
/// # Errors
/// Those of the backup.
pub async fn key_bytes(backup: &OpenBackup, part: &OpenPart) -> Result<Vec<u8>, BackupFault> {
    let mut bytes = Vec::new();
    let read = backup.read(part).await.and_then(|plain| plain.take(KEY_BYTES_MAX).read_to_end(&mut bytes));
    read.map_err(BackupFault::io("cannot read a key of the backup"))?;
    Ok(bytes)
}

/// Restores all content. Returns a sentence for each that is not what its name states.
///
/// # Errors
/// Those of the store and of the backup.
pub async fn restore_contents(
    backup: &OpenBackup,
    inventory: &Inventory,
    store: &Store,
    mut progress: impl FnMut(u64),
) -> Result<Vec<String>, BackupFault> {
    let mut findings = Vec::new();
    let work = store.folder().work_folder().map_err(BackupFault::io("cannot make a folder for content"))?;
    for (done, (name, part)) in (0..).zip(&inventory.contents) {
        progress(done);
        let restored = restore_content(backup, part, *name, store, work.path()).await;
        if !restored.map_err(BackupFault::io(format!("cannot restore content {name}")))? {
            findings.push(format!("Content {name} is not what its name states."));
        }
    }
    Ok(findings)
}

async fn restore_content(
    backup: &OpenBackup,
    part: &OpenPart,
    name: ContentName,
    store: &Store,
    work: &Path,
) -> io::Result<bool> {
    let mut plain = backup.read(part).await?;
    let path = work.join("content");
    let mut file = private_file(&path)?;
    if copied(&mut plain, |bytes| file.write_all(bytes))? != name.hash {
        std::fs::remove_file(&path)?;
        return Ok(false);
    }
    store.take(path, name).await.map(|()| true)
}

/// Restores the bytes of unfinished uploads.
///
/// # Errors
/// Those of the disk and of the backup.
pub async fn restore_uploads(backup: &OpenBackup, inventory: &Inventory, store: &Store) -> Result<(), BackupFault> {
    for (file, part) in &inventory.uploads {
        let restored = restore_upload(backup, part, *file, store).await;
        restored.map_err(BackupFault::io(format!("cannot restore upload {}", file.0)))?;
    }
    Ok(())
}

async fn restore_upload(backup: &OpenBackup, part: &OpenPart, file: FileId, store: &Store) -> io::Result<()> {
    let mut plain = backup.read(part).await?;
    let mut upload = store.folder().resume(file, 0)?;
    copied(&mut plain, |bytes| upload.append(bytes))?;
    upload.keep()
}

/// Passes all bytes to `write`. Returns their hash.
fn copied(from: &mut impl Read, mut write: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<ContentHash> {
    let (mut hashed, mut chunk) = (Hashed::default(), vec![0; READ_BYTES]);
    loop {
        match from.read(&mut chunk)? {
            0 => return Ok(hashed.finish().1),
            n => {
                hashed.add(&chunk[..n]);
                write(&chunk[..n])?;
            }
        }
    }
}
