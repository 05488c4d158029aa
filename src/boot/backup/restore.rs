//! `chat-server backup restore`: a whole server from a backup, in an empty place.
//!
//! 1. The backup is read, and every checksum compared. A damaged database or key ends the restore here.
//! 2. The place is empty: `data_dir`, the bucket of files, and with `database.url` the database. It is marked, so that
//!    no server starts on it before the restore has ended.
//! 3. Keys, database, content, unfinished uploads.
//! 4. The restored place is verified: rows, audit trail, and all content by `files check --deep`.

use super::super::error::{BootError, system};
use super::super::file_check::{FileCheckOptions, check_all};
use super::super::files::store;
use super::super::output::{ProgressLine, found, in_megabytes, print};
use super::super::reach::{prepare, reached, runtime};
use super::super::sealing;
use super::super::secret;
use super::guarded::GuardedPostgres;
use super::ledger;
use super::opening::{checked, opened, require_identity};
use super::unfinished::{UNFINISHED, refuse_unfinished_restore};
use super::verify::{audit_findings, uploads_without_bytes};
use crate::backup::BackupFault;
use crate::backup::manifest::BackupAbout;
use crate::backup::open::{Inventory, OpenBackup};
use crate::backup::place::{BackupPlace, private_file};
use crate::backup::restore::{restore_contents, restore_database, restore_keys, restore_uploads};
use crate::config::Config;
use crate::files::store::Store;
use crate::files::store::disk::DiskThreads;
use crate::storage::accounts::Accounts;
use crate::storage::backup::{expire_uploads, first_table};
use crate::storage::connect::{Role, RolePassword, Target};
use crate::storage::file_check::FileTables;
use crate::storage::{logins, migrate as migrations};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use tokio::runtime::Runtime;

/// What a disk has at the root of a new file system.
const OF_THE_SYSTEM: &str = "lost+found";
const ADVICE: &str = "the place was restored, and a server starts on it; the sentences say what is missing";

/// What `backup restore` is given.
pub struct RestoreBackupOptions {
    /// The backup.
    pub backup: BackupPlace,
    /// The secret keys of an encrypted one.
    pub identity: Option<PathBuf>,
    /// Restores the rest if contents are damaged.
    pub without_damaged_files: bool,
    /// Further ledgers of erasures, besides the one that is beside the backup.
    pub erasures: Vec<PathBuf>,
}

/// What is being restored.
struct Restored<'a> {
    config: &'a Config,
    backup: &'a OpenBackup,
    about: &'a BackupAbout,
    inventory: &'a Inventory,
    store: &'a Store,
}

/// Restores a backup into the place of the configuration, and verifies it.
///
/// # Errors
/// [`BootError::DamagedBackup`] if something is missing afterwards; when the place is not empty, the backup is damaged,
/// or something cannot be read or written.
pub fn restore_backup(config: &Config, options: &RestoreBackupOptions) -> Result<(), BootError> {
    refuse_unfinished_restore(config)?;
    require_empty(&config.data_dir)?;
    let runtime = runtime(1)?;
    let (backup, inventory) = runtime.block_on(async {
        let backup = opened(config, &options.backup, options.identity.as_deref()).await?;
        require_identity(&backup)?;
        let inventory = checked(&backup).await?;
        Ok::<_, BootError>((backup, inventory))
    })?;
    let Some(about) = &backup.about else { return require_identity(&backup) };
    require_whole(&inventory, options.without_damaged_files)?;
    require_fit(config, about)?;
    if let Some(url) = &config.database.url {
        runtime.block_on(require_empty_database(url.expose()))?;
    }

    let threads = DiskThreads::new().map_err(system("cannot start threads for files"))?;
    fs::create_dir_all(&config.data_dir).map_err(system("cannot make data_dir"))?;
    let mark = config.data_dir.join(UNFINISHED);
    private_file(&mark).and_then(|file| file.sync_all()).map_err(system("cannot write to data_dir"))?;
    let store = store(config, threads.disk())?;
    let restored = Restored { config, backup: &backup, about, inventory: &inventory, store: &store };
    let findings = restored.everything(runtime).inspect_err(|_| advise_to_empty(config))?;
    let ledgers = ledger::beside(&options.backup, &options.erasures);
    let erasures = ledger::restore(config, &ledgers).inspect_err(|_| advise_to_empty(config))?;
    fs::remove_file(&mark).and_then(|()| sync(&config.data_dir)).map_err(system("cannot complete the restore"))?;
    if findings > 0 {
        return Err(BootError::DamagedBackup { findings, advice: ADVICE });
    }
    let rows: i64 = about.tables.values().sum();
    print(&format!(
        "Restored and verified: {rows} rows in {} tables, {} contents of files, {} unfinished uploads, and an audit \
         trail of {} rows, from the backup of {}. Start the server.\n",
        about.tables.len(),
        inventory.contents.len(),
        inventory.uploads.len(),
        about.audit.size,
        backup.manifest.created_at
    ));
    print(&if ledgers.is_empty() {
        "There is no ledger of erasures with this backup. If people were erased since it was made, stop here: restore \
         again with --erasures and the file erasures.jsonl of the lost server.\n"
            .to_owned()
    } else {
        format!("The ledger has {erasures} erasures. The server does them again when it starts.\n")
    });
    Ok(())
}

fn advise_to_empty(config: &Config) {
    let folder = config.data_dir.display();
    let what = if config.database.url.is_some() { " and the database" } else { "" };
    let _ = io::Write::write_fmt(
        &mut io::stderr(),
        format_args!("The restore was cut short. Empty {folder}{what} before you restore again.\n"),
    );
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Refuses a folder that has something in it.
fn require_empty(data_dir: &Path) -> Result<(), BootError> {
    let entries = match fs::read_dir(data_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(system("cannot read data_dir"))?,
    };
    let first = entries.flatten().map(|entry| entry.file_name()).find(|name| name != OF_THE_SYSTEM);
    let Some(first) = first else { return Ok(()) };
    Err(BackupFault::Unfit(format!(
        "{} is not empty: it has {}. A backup is restored into an empty data_dir only; choose another one, or move \
         this folder away",
        data_dir.display(),
        first.to_string_lossy()
    ))
    .into())
}

/// Refuses a store that has content.
async fn require_no_content(store: &Store) -> Result<(), BootError> {
    for first in 0..=255 {
        if let Some(name) = store.contents(first).await.map_err(system("cannot read the store of files"))?.first() {
            return Err(BackupFault::Unfit(format!(
                "the store of files is not empty: it has content {name}. Choose an empty bucket or another \
                 files.s3_prefix"
            ))
            .into());
        }
    }
    Ok(())
}

fn require_whole(inventory: &Inventory, without_damaged_files: bool) -> Result<(), BootError> {
    if inventory.broken > 0 {
        let advice = "nothing was restored; use another backup";
        return Err(BootError::DamagedBackup { findings: inventory.broken + inventory.broken_contents, advice });
    }
    if inventory.broken_contents > 0 && !without_damaged_files {
        let advice = "nothing was restored; use another backup, or --without-damaged-files to restore everything else";
        return Err(BootError::DamagedBackup { findings: inventory.broken_contents, advice });
    }
    Ok(())
}

/// Refuses a backup of a later version, and a configuration that lacks what was not in `data_dir`.
fn require_fit(config: &Config, about: &BackupAbout) -> Result<(), BootError> {
    let known = migrations::newest_table();
    if about.migration > known {
        return Err(BackupFault::Unfit(format!(
            "the backup is of a later version of chat-server: its database has table migration {}, and this version \
             knows {known}; use that version",
            about.migration
        ))
        .into());
    }
    let is_set = [
        ("security.jwt_secret", config.security.jwt_secret.is_some()),
        ("security.encryption_keys", !config.security.encryption_keys.is_empty()),
    ];
    let missing = is_set.iter().find(|(key, is_set)| !is_set && about.outside.iter().any(|outside| outside == key));
    let Some((key, _)) = missing else { return Ok(()) };
    Err(BackupFault::Unfit(format!(
        "{key} of the server was in its configuration, and is not in the backup: set it to the same value. If that is \
         lost, set a new one: docs/operations.md says what ends then"
    ))
    .into())
}

/// Refuses a database that has tables.
async fn require_empty_database(url: &str) -> Result<(), BootError> {
    let target = Target::from_url(url, [const { RolePassword::None }; 3])?;
    let login = reached(&target, target.connect_as_login().await)?;
    if let Some(table) = first_table(&login).await? {
        return Err(BackupFault::Unfit(format!(
            "the database of database.url is not empty: it has the table {table}. Create another one with CREATE \
             DATABASE, and put its name into database.url"
        ))
        .into());
    }
    Ok(())
}

/// The database of a URL, with its logins.
async fn database_of(config: &Config, url: &str) -> Result<Target, BootError> {
    let target = Target::from_url(url, secret::database_passwords(config)?)?;
    logins::prepare(&target, &reached(&target, target.connect_as_login().await)?).await?;
    Ok(target)
}

impl Restored<'_> {
    /// Keys, database and files, and what is wrong with them. PostgreSQL stops after its clients.
    fn everything(&self, runtime: Runtime) -> Result<u64, BootError> {
        runtime.block_on(async {
            require_no_content(self.store).await?;
            Ok::<_, BootError>(restore_keys(self.backup, self.inventory, &self.config.data_dir).await?)
        })?;
        let (target, postgres) = match &self.config.database.url {
            Some(url) => (runtime.block_on(database_of(self.config, url.expose()))?, None),
            None => {
                let postgres = GuardedPostgres::start(&self.config.data_dir, None)?;
                (postgres.target()?, Some(postgres))
            }
        };
        let findings = runtime
            .block_on(async { Ok::<_, BootError>(self.rows_and_files(&target).await? + self.verify(&target).await?) });
        drop(runtime);
        drop(postgres);
        findings
    }

    /// Database, content and uploads. Prints the differences from the snapshot, and returns their number.
    async fn rows_and_files(&self, target: &Target) -> Result<u64, BootError> {
        let mut progress = ProgressLine::new();
        progress.show(|| "the database".to_owned());
        let mut findings = restore_database(self.backup, self.inventory, target).await?;
        let contents = self.inventory.contents.len();
        let shown = |done: u64| format!("{done} of {contents} contents, {}", in_megabytes(self.inventory.bytes));
        findings.extend(
            restore_contents(self.backup, self.inventory, self.store, |done| progress.show(|| shown(done))).await?,
        );
        restore_uploads(self.backup, self.inventory, self.store).await?;
        progress.clear();
        Ok(printed(&findings))
    }

    /// Everything that a running server relies on. Prints the findings, and returns their number.
    async fn verify(&self, target: &Target) -> Result<u64, BootError> {
        // The backup may be of an earlier version.
        prepare(target, true).await?;
        let findings = printed(&audit_findings(self.backup, self.inventory, target).await?);
        let accounts = Accounts::new(target.pool(Role::Writer, 2)?);
        let tables = FileTables::new(accounts.clone());
        let lost = uploads_without_bytes(&tables, self.inventory).await?;
        if !lost.is_empty() {
            print(&format!(
                "Note: {} unfinished uploads were ended, because their bytes are not in the backup.\n",
                lost.len()
            ));
            expire_uploads(&accounts, &lost).await.map_err(BootError::Refused)?;
        }
        let options = FileCheckOptions { deep: true, repair: false };
        let report = check_all(&tables, self.store, options, false).await?;
        if !self.about.lost.is_empty() {
            print("Note: the server had lost content before the backup was made. The manifest names it.\n");
        }
        if let Some(keys) = secret::sealing_keys(self.config)? {
            sealing::report_unknown_keys(&accounts, &keys).await;
        }
        Ok(findings + report.findings)
    }
}

fn printed(findings: &[String]) -> u64 {
    findings.iter().map(String::as_str).for_each(found);
    findings.len() as u64
}
