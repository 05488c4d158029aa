//! The ledger of erasures: `data_dir/erasures.jsonl`, a signed line for each erasure that was requested.
//!
//! Invariants:
//! - lines are only added, and each is durable before the erasure goes on;
//! - a line that this server has not signed stops its start: a damaged ledger must not bring a person back in silence.
//!   A last line without its end was never completed, and the next one replaces it.
//!
//! `copies` are further files, beside backups. They are completed with each erasure and every ten minutes, when they
//! can be written: a backup on a disk that is not mounted must not stop an erasure.

use crate::audit::erasure::{ErasureRecord, LEDGER_LINE_MAX};
use crate::audit::note::AuditKey;
use crate::error::{ErrorCode, Refusal};
use crate::faults::warn_limited;
use crate::files::store::disk::Disk;
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// The name of the file.
pub const LEDGER_FILE: &str = "erasures.jsonl";

/// The file with the folders that backups were made in, a line each.
const PLACES_FILE: &str = "backup_places";
/// How long an erasure waits for the copies of the ledger.
const COPY_TIME_MAX: Duration = Duration::from_secs(5);
/// Folders that it names at most.
const PLACES_MAX: usize = 100;

/// The ledger; cloning shares it.
#[derive(Clone)]
pub struct Ledger {
    path: PathBuf,
    /// A file with the places of copies, a line each.
    places: PathBuf,
    key: AuditKey,
    disk: Disk,
    /// The ids that the file has.
    known: Arc<Mutex<HashSet<String>>>,
    /// Held while copies are written.
    copying: Arc<Mutex<()>>,
}

impl Ledger {
    /// The ledger in `data_dir`, and its erasures.
    ///
    /// # Errors
    /// The system's; a line that is not this server's.
    pub fn open(data_dir: &Path, key: AuditKey, disk: Disk) -> io::Result<(Self, Vec<ErasureRecord>)> {
        let path = data_dir.join(LEDGER_FILE);
        let records = read(&path, &key)?;
        let known = records.iter().map(|record| record.id.clone()).collect();
        let places = data_dir.join(PLACES_FILE);
        Ok((Self { path, places, key, disk, known: Arc::new(Mutex::new(known)), copying: Arc::default() }, records))
    }

    /// Adds an erasure, unless it is there. It is durable then. The copies get it too, if they answer.
    ///
    /// # Errors
    /// `storage_unavailable` if the file cannot be written.
    pub async fn add(&self, record: &ErasureRecord) -> Result<(), Refusal> {
        let mut known = self.known.lock().await;
        if known.contains(&record.id) {
            return Ok(());
        }
        let (line, path) = (record.to_line(&self.key), self.path.clone());
        let added = self.disk.run(move || append(&path, &line));
        added.await.map_err(|error| {
            let path = self.path.display();
            Refusal::new(ErrorCode::StorageUnavailable, format!("The ledger {path} cannot be written: {error}."))
        })?;
        known.insert(record.id.clone());
        drop(known);
        // A disk that hangs delays nobody for longer.
        let _ = timeout(COPY_TIME_MAX, self.complete_copies()).await;
        Ok(())
    }

    /// Adds to every copy what it lacks: it may have been away.
    pub async fn complete_copies(&self) {
        let Ok(_alone) = self.copying.try_lock() else { return };
        let (path, places, key) = (self.path.clone(), self.places.clone(), self.key.clone());
        let completed = self.disk.run(move || {
            let records = read(&path, &key)?;
            for place in copies(&places) {
                let merged = merge(&place, &key, &records);
                if let Err(error) = merged {
                    warn_limited!(
                        "the copy {} of the ledger of erasures is not complete: {error}; it is tried again. Before you \
                         restore a backup of that folder, give {} with --erasures",
                        place.display(),
                        path.display()
                    );
                }
            }
            Ok(())
        });
        if let Err(error) = completed.await {
            warn_limited!("the ledger of erasures cannot be read: {error}");
        }
    }
}

/// The erasures of a ledger; none if there is no file.
///
/// # Errors
/// The system's; `InvalidData` for a line that is not this server's.
pub fn read(path: &Path, key: &AuditKey) -> io::Result<Vec<ErasureRecord>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let (public, mut reader, mut records) = (key.public(), BufReader::new(file), Vec::new());
    for number in 1_u64.. {
        let mut line = Vec::new();
        io::Read::take(&mut reader, LEDGER_LINE_MAX as u64).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') && line.len() < LEDGER_LINE_MAX - 1 {
            break; // the end, or a line that was never completed
        }
        let record = std::str::from_utf8(&line).map_err(|_| "it is not UTF-8".to_owned());
        let record = record.and_then(|line| ErasureRecord::from_line(line, &public).map_err(|error| error.to_string()));
        records.push(record.map_err(|reason| {
            let fault = format!(
                "{}, line {number}: {reason}. Restore the file from a copy, together with the audit_key of the same \
                 server; without the line, a restored backup brings the erased person back",
                path.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, fault)
        })?);
    }
    Ok(records)
}

/// Adds the erasures that a ledger does not have. Returns how many these were.
///
/// # Errors
/// As for [`read`], and the system's.
pub fn merge(path: &Path, key: &AuditKey, records: &[ErasureRecord]) -> io::Result<usize> {
    let known: HashSet<String> = read(path, key)?.into_iter().map(|record| record.id).collect();
    let mut new: Vec<&ErasureRecord> = records.iter().filter(|record| !known.contains(&record.id)).collect();
    new.sort_by(|a, b| a.id.cmp(&b.id));
    new.dedup_by(|a, b| a.id == b.id);
    new.iter().try_for_each(|record| append(path, &record.to_line(key)))?;
    Ok(new.len())
}

/// Remembers that backups are kept in this folder, so that its copy of the ledger gets later erasures too.
///
/// # Errors
/// The system's.
pub fn remember_place(data_dir: &Path, folder: &Path) -> io::Result<()> {
    let (places, folder) = (data_dir.join(PLACES_FILE), folder.canonicalize()?);
    let Some(folder) = folder.to_str().filter(|folder| !folder.contains('\n')) else { return Ok(()) };
    let text = match std::fs::read_to_string(&places) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    if text.lines().any(|line| line == folder) || text.lines().count() >= PLACES_MAX {
        return Ok(());
    }
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&places)?;
    file.write_all(format!("{folder}\n").as_bytes())?;
    file.sync_all()
}

/// Adds a line, and syncs. What an incomplete line has left goes.
fn append(path: &Path, line: &str) -> io::Result<()> {
    let is_new = !path.exists();
    let mut file = OpenOptions::new().create(true).read(true).write(true).truncate(false).mode(0o600).open(path)?;
    let complete = complete_bytes(&file)?;
    file.set_len(complete)?;
    file.seek(SeekFrom::Start(complete))?;
    file.write_all(format!("{line}\n").as_bytes())?;
    file.sync_all()?;
    match path.parent().filter(|_| is_new) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Bytes up to the end of the last complete line.
fn complete_bytes(file: &File) -> io::Result<u64> {
    let (mut reader, mut complete, mut at) = (BufReader::new(file), 0, 0);
    loop {
        let mut line = Vec::new();
        let read = io::Read::take(&mut reader, LEDGER_LINE_MAX as u64).read_until(b'\n', &mut line)?;
        at += read as u64;
        match line.last() {
            None => return Ok(complete),
            Some(b'\n') => complete = at,
            Some(_) => {}
        }
    }
}

/// The ledgers beside backups.
fn copies(places: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(places).unwrap_or_default();
    text.lines().filter(|line| line.starts_with('/')).map(|place| Path::new(place).join(LEDGER_FILE)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::store::disk::DiskThreads;
    use crate::ids::UserId;
    use time::OffsetDateTime;

    fn record(user: i64) -> ErasureRecord {
        ErasureRecord {
            id: format!("{user:032x}"),
            user: UserId(user),
            account_created_at: OffsetDateTime::UNIX_EPOCH,
            requested_by: UserId(user),
            requested_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn keeps_every_erasure_once_and_survives_a_torn_line() {
        let root = tempfile::tempdir().unwrap();
        let copy = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("backup_places"), format!("{}\n/nowhere\n", copy.path().display())).unwrap();
        let (threads, key) = (DiskThreads::new().unwrap(), AuditKey::new(&[1; 32]));
        let open = || Ledger::open(root.path(), key.clone(), threads.disk()).unwrap();
        let (ledger, records) = open();
        assert_eq!(records, []);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let add = |ledger: &Ledger, user| runtime.block_on(ledger.add(&record(user))).unwrap();
        for user in [1, 2, 1] {
            add(&ledger, user);
        }
        let file = root.path().join(LEDGER_FILE);
        OpenOptions::new().append(true).open(&file).unwrap().write_all(b"\"torn").unwrap();
        let (ledger, records) = open();
        assert_eq!(records, [record(1), record(2)]);
        add(&ledger, 3);
        assert_eq!(open().1, [record(1), record(2), record(3)]);
        assert_eq!(read(&copy.path().join(LEDGER_FILE), &key).unwrap().len(), 3);
        // A copy that was away gets what it lacks.
        std::fs::remove_file(copy.path().join(LEDGER_FILE)).unwrap();
        runtime.block_on(ledger.complete_copies());
        assert_eq!(read(&copy.path().join(LEDGER_FILE), &key).unwrap().len(), 3);
        let fault = read(&file, &AuditKey::new(&[2; 32])).unwrap_err().to_string();
        assert!(fault.contains("line 1"), "{fault}");
        let text = std::fs::read_to_string(&file).unwrap().replacen(":2,", ":9,", 1);
        std::fs::write(&file, text).unwrap();
        let fault = read(&file, &key).unwrap_err().to_string();
        assert!(fault.contains("line 2"), "{fault}");
    }
}
