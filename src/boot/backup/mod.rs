//! `chat-server backup`: the commands, from the configuration to what they print.
//!
//! ```text
//!   create.rs      hold content → snapshot → uploads, dump, contents, keys → manifest
//!   verify.rs      checksums → a database in a folder of its own → rows, audit trail, contents
//!   restore.rs     checksums → an empty place → keys, database, files → audit trail, `files check --deep`
//! ```
//!
//! `crate::backup` has the parts of it that need no configuration.

mod create;
mod restore;
mod verify;

pub use self::create::{CreateBackupOptions, create_backup};
pub use self::restore::{RestoreBackupOptions, restore_backup};
pub use self::verify::{VerifyBackupOptions, verify_backup};
pub use crate::backup::place::BackupPlace;
pub use crate::backup::seal::BackupRecipient;

use super::error::{BootError, system};
use super::files::backup_bucket;
use crate::backup::BackupFault;
use crate::backup::open::{Inventory, OpenBackup};
use crate::backup::place::OpenPlace;
use crate::backup::seal::BackupIdentities;
use crate::config::Config;
use crate::storage::embedded::Embedded;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Between two lines of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// In `data_dir` while a restore goes on. It stays if the restore does not end.
const UNFINISHED: &str = "restore_unfinished";

/// Refuses a folder in which a restore was cut short.
///
/// # Errors
/// What to do.
pub(super) fn refuse_unfinished_restore(config: &Config) -> Result<(), BootError> {
    if !config.data_dir.join(UNFINISHED).exists() {
        return Ok(());
    }
    Err(BootError::Configuration(format!(
        "a restore into {} was cut short: empty that folder (and the database, with database.url), and restore again",
        config.data_dir.display()
    )))
}

/// Opens a backup for reading.
async fn opened(config: &Config, place: &BackupPlace, identity: Option<&Path>) -> Result<OpenBackup, BootError> {
    let identities = identity.map(BackupIdentities::read).transpose()?;
    let place = match place {
        BackupPlace::Folder(path) => OpenPlace::folder(path)?,
        BackupPlace::Bucket { bucket, prefix } => OpenPlace::Bucket(backup_bucket(config, bucket, prefix)?),
    };
    Ok(OpenBackup::open(place, identities).await?)
}

/// Refuses an encrypted backup without an identity.
fn require_identity(backup: &OpenBackup) -> Result<(), BootError> {
    if backup.about.is_some() {
        return Ok(());
    }
    let advice = "the backup is encrypted; give --identity FILE, or with verify --checksums for the checksums alone";
    Err(BackupFault::Unfit(advice.to_owned()).into())
}

/// Reads every part, and prints what is wrong.
async fn checked(backup: &OpenBackup) -> Result<Inventory, BootError> {
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

/// Prints a finding. Not print!, which panics when the reader of a pipe closes it.
fn found(sentence: &str) {
    print(&format!("{sentence}\n"));
}

fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

fn in_megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

/// A line on the terminal that shows how far a command is.
struct ProgressLine {
    shown: Option<Instant>,
    is_terminal: bool,
    is_visible: bool,
}

impl ProgressLine {
    fn new() -> Self {
        Self { shown: None, is_terminal: io::stderr().is_terminal(), is_visible: false }
    }

    fn show(&mut self, text: impl FnOnce() -> String) {
        if self.is_terminal && self.shown.is_none_or(|shown| shown.elapsed() >= PROGRESS_INTERVAL) {
            self.shown = Some(Instant::now());
            self.is_visible = true;
            let _ = write!(io::stderr(), "\r\x1b[K{}", text());
        }
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.is_visible) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// A private PostgreSQL that stops with the command, also if a signal stops the command.
struct GuardedPostgres(Arc<Mutex<Option<Embedded>>>);

impl GuardedPostgres {
    /// After a signal, `remove` is removed too, if it is given.
    fn start(data_dir: &Path, remove: Option<PathBuf>) -> Result<Self, BootError> {
        let guarded = Self(Arc::new(Mutex::new(None)));
        let slot = Arc::clone(&guarded.0);
        let runtime = super::reach::runtime(1)?;
        let watching = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                let (Ok(mut interrupt), Ok(mut terminate)) =
                    (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
                else {
                    return;
                };
                tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
                drop(slot.lock().unwrap_or_else(PoisonError::into_inner).take());
                if let Some(folder) = remove {
                    let _ = std::fs::remove_dir_all(folder);
                }
                let _ = writeln!(io::stderr(), "chat-server: stopped by a signal");
                std::process::exit(1);
            });
        });
        watching.map_err(system("cannot start a thread"))?;
        let started = Embedded::start(data_dir)?;
        *guarded.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
        Ok(guarded)
    }

    fn target(&self) -> Result<crate::storage::connect::Target, BootError> {
        let started = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stopped = || BootError::Broken("the private PostgreSQL was stopped".to_owned());
        started.as_ref().map(Embedded::target).ok_or_else(stopped)
    }
}

impl Drop for GuardedPostgres {
    fn drop(&mut self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
