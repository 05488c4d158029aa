//! `chat-server backup create`.
//!
//! The server may run meanwhile. The order keeps rows and files together:
//!
//! 0. A row of the audit trail: a backup reads everything.
//! 1. The session holds content: from now on no job removes any (`commit/claim_job.sql`).
//! 2. Uploads get a second name, before the snapshot and after it, because they become content when they are checked.
//! 3. The snapshot. Uploads, dump, counts, and which content its rows name. Then it ends, because PostgreSQL keeps old
//!    rows for it.
//! 4. Every content that it named, which is still held; keys, manifest.

use super::super::error::{BootError, system};
use super::super::files::{backup_bucket, store};
use super::super::output::{ProgressLine, found, in_megabytes, print};
use super::super::reach::with_whole_database;
use super::super::secret::database_passwords;
use super::ledger;
use crate::backup::BackupFault;
use crate::backup::create::{BackupWriter, bytes_of_reader, hash_of_stream};
use crate::backup::dump::DumpPrograms;
use crate::backup::manifest::{AuditEnd, BackupAbout, LOST_NAMED_MAX, Manifest};
use crate::backup::name::{KeyFile, PartName};
use crate::backup::place::{BackupPlace, NewFolder, NewPlace};
use crate::backup::seal::BackupRecipient;
use crate::config::{Config, ContentStore, SecretUrl};
use crate::files::content::ContentHash;
use crate::files::store::Store;
use crate::files::store::disk::DiskThreads;
use crate::ids::FileId;
use crate::storage::accounts::Accounts;
use crate::storage::backup::{BackupSession, SnapshotFacts};
use crate::storage::connect::{Role, Target};
use crate::storage::file_check::{AwaitedUpload, NamedContent};
use crate::storage::migrate as migrations;
use crate::storage::server_lock;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// Uploads that one statement reads.
const UPLOADS_AT_ONCE: i64 = 500;
/// Bytes of a file with a URL.
const URL_BYTES_MAX: u64 = 4_096;
/// Content that the server has lost although its file is there.
const DAMAGED: &str = "has other bytes than were checked";
/// Bytes of a key.
const KEY_BYTES_MAX: u64 = 4_096;

/// What `backup create` is given.
pub struct CreateBackupOptions {
    /// Where backups are kept.
    pub to: BackupPlace,
    /// Its name there; the time of its beginning if it has none.
    pub name: Option<String>,
    /// For whom it is encrypted; nobody if there is none.
    pub recipients: Vec<BackupRecipient>,
    /// A file with the URL of a login that reads every row.
    pub database_url_file: Option<PathBuf>,
}

/// What is being backed up.
struct Source<'a> {
    config: &'a Config,
    store: &'a Store,
    session: &'a BackupSession,
    target: &'a Target,
}

/// Makes a backup and prints where it is.
///
/// # Errors
/// [`BootError::DamagedBackup`] if content was lost already: the backup is complete except for that. When something
/// cannot be read or written, there is no backup.
pub fn create_backup(config: &Config, options: CreateBackupOptions) -> Result<(), BootError> {
    let begun = OffsetDateTime::now_utc();
    let named = options.name.unwrap_or_else(|| {
        begun.format(format_description!("[year]-[month]-[day]T[hour][minute][second]Z")).unwrap_or_default()
    });
    let place = options.to.join(&backup_name(named)?);
    let url = options.database_url_file.as_deref().map(read_url).transpose()?;
    // Of the server's own login, because the one that reads every row may not write.
    let writer_target = match config.database.url.as_ref().map(SecretUrl::expose).or(url.as_deref()) {
        Some(url) => Some(Target::from_url(url, database_passwords(config)?)?),
        None => None,
    };
    let threads = DiskThreads::new().map_err(system("cannot start threads for files"))?;
    let store = store(config, threads.disk())?;
    let (manifest, lost, shared_bytes) = with_whole_database(config, url.as_deref(), async |target| {
        let session = BackupSession::open(target).await?;
        let source = Source { config, store: &store, session: &session, target };
        let writer_target = writer_target.as_ref().unwrap_or(target);
        migrations::require_migrated(writer_target).await?;
        let accounts = Accounts::new(writer_target.pool(Role::Writer, 1)?);
        let is_encrypted = !options.recipients.is_empty();
        let new = match &place {
            BackupPlace::Folder(path) => NewPlace::Folder(NewFolder::begin(path.clone())?),
            BackupPlace::Bucket { bucket, prefix } => {
                NewPlace::in_bucket(backup_bucket(config, bucket, prefix)?, &place).await?
            }
        };
        let mut writer = BackupWriter::begin(new, options.recipients)?;
        // Before the snapshot, so that the backup has the row too.
        let recorded = accounts.record_backup(&place.to_string(), is_encrypted).await.map_err(BootError::Refused);
        let written = match recorded {
            Ok(()) => write(&source, &mut writer, begun).await,
            Err(error) => Err(error),
        };
        let shared_bytes = writer.shared_bytes();
        if written.is_err() {
            writer.discard().await;
        }
        written.map(|(manifest, lost)| (manifest, lost, shared_bytes))
    })?;
    lost.iter().map(String::as_str).for_each(found);
    print(&format!("{place}\n"));
    ledger::copy_beside(config, &options.to);
    let _ = io::Write::write_fmt(
        &mut io::stderr(),
        format_args!(
            "The backup has {} parts with {}, of which {} are shared with an earlier backup.\n",
            manifest.parts,
            in_megabytes(manifest.bytes),
            in_megabytes(shared_bytes)
        ),
    );
    if lost.is_empty() {
        return Ok(());
    }
    let advice = "the backup is complete except for this content, which the server had lost already";
    Err(BootError::DamagedBackup { findings: lost.len() as u64, advice })
}

/// Refuses a name that could lead elsewhere.
fn backup_name(name: String) -> Result<String, BackupFault> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=100).contains(&name.len()) && name.bytes().all(is_allowed) && !name.starts_with('.') {
        return Ok(name);
    }
    Err(BackupFault::Unfit(
        "--name: a name has at most 100 letters, digits, hyphens, underscores and dots, and no dot first".to_owned(),
    ))
}

pub(in crate::boot) fn read_url(path: &Path) -> Result<String, BackupFault> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(URL_BYTES_MAX).read_to_string(&mut text));
    read.map_err(BackupFault::io(format!("cannot read --database-url-file {}", path.display())))?;
    Ok(text.trim().to_owned())
}

/// Writes everything. Returns the sentences about what was lost already.
async fn write(
    source: &Source<'_>,
    writer: &mut BackupWriter,
    begun: OffsetDateTime,
) -> Result<(Manifest, Vec<String>), BootError> {
    let programs = DumpPrograms::find()?;
    let mut progress = ProgressLine::new();
    let folder = source.store.folder();
    let held = folder.work_folder().map_err(system("cannot make a folder for uploads in data_dir/files"))?;
    let link = || folder.link_uploads(held.path()).map_err(system("cannot hold the uploads"));
    link()?;
    let snapshot = source.session.begin().await?;
    link()?;
    let facts = source.session.facts().await?;
    progress.show(|| "unfinished uploads".to_owned());
    let uploads = write_uploads(source, writer, held.path()).await?;
    progress.show(|| "the database".to_owned());
    let (dump, output) = programs.dump(source.target, &snapshot)?;
    match writer.put(PartName::Database, bytes_of_reader(output)).await {
        Ok(_) => dump.finish()?,
        Err(error) => {
            dump.abort();
            return Err(error.into());
        }
    }
    progress.show(|| "counting rows".to_owned());
    let mut about = about(source.config, facts);
    about.tables = source.session.counts().await?;
    let contents = source.session.contents().await?;
    source.session.end_snapshot().await?;
    let (files, lost) = write_contents(source.store, writer, &contents, &mut progress).await?;
    source.session.release().await?;
    write_keys(source.config, writer).await?;
    (about.files, about.uploads) = (files, uploads);
    about.lost = lost.iter().take(LOST_NAMED_MAX).cloned().collect();
    progress.clear();
    let created_at = begun.replace_nanosecond(0).unwrap_or(begun).format(&Rfc3339).unwrap_or_default();
    Ok((writer.finish(created_at, about).await?, lost))
}

/// Uploads that were not checked at the time of the snapshot, with the bytes that were durable then.
async fn write_uploads(source: &Source<'_>, writer: &mut BackupWriter, held: &Path) -> Result<u64, BootError> {
    let (mut after, mut written) = (FileId(0), 0);
    loop {
        let page = source.session.uploads(after, UPLOADS_AT_ONCE).await?;
        let Some(last) = page.last() else { return Ok(written) };
        after = last.file;
        for AwaitedUpload { file, received } in page {
            let path = held.join(file.0.to_string());
            // An upload of another node, or one whose content is stored already.
            let Ok(opened) = File::open(&path) else { continue };
            if opened.metadata().map_err(system("cannot read an upload"))?.len() < received {
                tracing::warn!("upload {} has fewer bytes on the disk than were acknowledged; it is left out", file.0);
                continue;
            }
            writer.put(PartName::Upload(file), bytes_of_reader(opened.take(received))).await?;
            written += 1;
            // It also shows the server that the folder is in use.
            std::fs::remove_file(&path).map_err(system("cannot release an upload"))?;
        }
    }
}

/// Every content that the snapshot names. Returns their number, and sentences about those that were lost already.
async fn write_contents(
    store: &Store,
    writer: &mut BackupWriter,
    contents: &[NamedContent],
    progress: &mut ProgressLine,
) -> Result<(u64, Vec<String>), BootError> {
    let (mut written, mut lost) = (0, Vec::new());
    for (done, content) in contents.iter().enumerate() {
        progress.show(|| format!("{done} of {} contents, {}", contents.len(), in_megabytes(writer.bytes())));
        match write_content(store, writer, content).await? {
            None => written += 1,
            // It is being checked, and its job stores it again.
            Some(_) if !content.is_needed => {}
            Some(fault) => lost.push(format!("Content {} {fault}.", content.name)),
        }
    }
    Ok((written, lost))
}

/// What is wrong with a content, if it cannot be written.
async fn write_content(
    store: &Store,
    writer: &mut BackupWriter,
    content: &NamedContent,
) -> Result<Option<&'static str>, BootError> {
    let reading = || system("cannot read the store of files");
    let Some(size) = store.size(content.name).await.map_err(reading())? else { return Ok(Some("is missing")) };
    let shares = writer.link_earlier(content.name, size).await?;
    let bytes = store.read(content.name, 0..size).await.map_err(reading())?;
    let hash = if shares {
        // It is read all the same, because a backup also finds out what the server has lost.
        let hash = hash_of_stream(bytes).await.map_err(reading())?;
        writer.settle_link(content.name, size, hash).await?;
        hash
    } else {
        writer.put(PartName::Content(content.name), bytes).await?.hash
    };
    Ok((hash != content.name.hash).then_some(DAMAGED))
}

async fn write_keys(config: &Config, writer: &mut BackupWriter) -> Result<(), BootError> {
    for key in KeyFile::ALL {
        match File::open(config.data_dir.join(key.file())) {
            Ok(file) => {
                writer.put(PartName::Key(key), bytes_of_reader(file.take(KEY_BYTES_MAX))).await?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(system("cannot read a key in data_dir")(error)),
        }
    }
    Ok(())
}

/// What the backup is of, without what is counted.
fn about(config: &Config, facts: SnapshotFacts) -> BackupAbout {
    let (security, database, files) = (&config.security, &config.database, &config.files);
    let outside = [
        ("security.jwt_secret", security.jwt_secret.is_some()),
        ("security.jwt_keys", !security.jwt_keys.is_empty()),
        ("security.encryption_keys", !security.encryption_keys.is_empty()),
        ("security.captcha_secret", security.captcha_secret.is_some()),
        ("server.metrics_token", config.server.metrics_token.is_some()),
        ("database.url", database.url.is_some()),
        ("database.owner_password", database.owner_password.is_some()),
        ("database.app_password", database.app_password.is_some()),
        ("database.writer_password", database.writer_password.is_some()),
        ("files.s3_secret_access_key", files.s3_secret_access_key.is_some()),
    ];
    let node = server_lock::name(config.server.bind_addr);
    BackupAbout {
        // The process is the one of this command.
        node: node.split_once(", process").map_or(node.as_str(), |(node, _)| node).to_owned(),
        postgres_version: facts.postgres_version,
        migration: facts.migration,
        tables: std::collections::BTreeMap::new(),
        audit: AuditEnd {
            log_id: facts.log_id,
            size: facts.head.size,
            root: ContentHash(facts.head.root).to_string(),
            checkpoint: facts.checkpoint,
        },
        store: match files.store {
            ContentStore::Folder => "folder".to_owned(),
            ContentStore::S3 => "s3".to_owned(),
        },
        files: 0,
        uploads: 0,
        outside: outside.into_iter().filter(|(_, is_set)| *is_set).map(|(key, _)| key.to_owned()).collect(),
        lost: Vec::new(),
    }
}
