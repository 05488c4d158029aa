//! `chat-server files check`: whether the store has what the tables say, and nothing else.
//!
//! The server may run meanwhile. So the store is listed before the rows are read, and what looks wrong is looked at
//! again before it counts. The folder of uploads is that of this server.

use super::error::{BootError, system};
use super::files::store;
use super::output;
use super::reach::with_database;
use crate::config::Config;
use crate::files::content::{ContentHash, ContentName};
use crate::files::store::Store;
use crate::files::store::disk::DiskThreads;
use crate::ids::FileId;
use crate::storage::accounts::Accounts;
use crate::storage::connect::Role;
use crate::storage::file_check::{AwaitedUpload, FileTables, NamedContent};
use std::collections::HashSet;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Between two lines of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

const UPLOADS_FAULT: &str = "cannot read the folder of uploads";
/// Uploads that one statement looks for.
const UPLOADS_AT_ONCE: usize = 200;

/// What a check does besides comparing names and sizes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileCheckOptions {
    /// Reads all content and compares its SHA-256.
    pub deep: bool,
    /// Removes content that nobody needs, and corrects the counts.
    pub repair: bool,
}

/// The result of a check.
#[derive(Default)]
pub(super) struct CheckReport {
    /// Sentences that were printed.
    pub(super) findings: u64,
    repaired: u64,
    /// Contents that were looked at.
    pub(super) checked: u64,
    /// Bytes of these contents.
    pub(super) bytes: u64,
}

impl CheckReport {
    fn found(&mut self, sentence: &str) {
        self.findings += 1;
        output::found(sentence);
    }
}

/// Compares the store with the tables and prints what differs.
///
/// # Errors
/// [`BootError::DamagedFiles`] if there is a finding that was not repaired; when the database or the store cannot be
/// read.
pub fn check_files(config: &Config, options: FileCheckOptions) -> Result<(), BootError> {
    let threads = DiskThreads::new().map_err(system("cannot start threads for files"))?;
    let store = store(config, threads.disk())?;
    let report = with_database(config, async |target| {
        let tables = FileTables::new(Accounts::new(target.pool(Role::Writer, 2)?));
        check_all(&tables, &store, options, config.database.shared).await
    })?;
    let CheckReport { findings, repaired, checked, bytes } = report;
    let _ = writeln!(
        io::stdout(),
        "{checked} contents of {bytes} bytes checked: {findings} findings, of which {repaired} were repaired."
    );
    if findings > repaired { Err(BootError::DamagedFiles { findings: findings - repaired }) } else { Ok(()) }
}

/// Compares the store with the tables, and prints a sentence for each difference.
pub(super) async fn check_all(
    tables: &FileTables,
    store: &Store,
    options: FileCheckOptions,
    is_shared: bool,
) -> Result<CheckReport, BootError> {
    let mut report = CheckReport::default();
    let mut shown = Instant::now();
    let shows_progress = io::stderr().is_terminal();
    for first in 0..=255 {
        check_part(tables, store, options, first, &mut report).await?;
        if shows_progress && shown.elapsed() >= PROGRESS_INTERVAL {
            shown = Instant::now();
            let _ =
                write!(io::stderr(), "\r{} of 256 parts, {} contents checked", u16::from(first) + 1, report.checked);
        }
    }
    if shows_progress {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    check_stray_uploads(tables, store, options, &mut report).await?;
    check_short_uploads(tables, store, is_shared, &mut report).await?;
    for file in tables.without_content().await.map_err(BootError::Refused)? {
        report.found(&format!("File {} is ready, and no content is named for it. Restore a backup.", file.0));
    }
    for wrong in tables.wrong_usage(options.repair).await.map_err(BootError::Refused)? {
        let ((bytes, files), (actual_bytes, actual_files)) = (wrong.counted, wrong.actual);
        let whose = if wrong.user == 0 { "all users".to_owned() } else { format!("user {}", wrong.user) };
        report.found(&format!(
            "The files of {whose} are counted as {files} with {bytes} bytes, and are {actual_files} with \
             {actual_bytes}."
        ));
        report.repaired += u64::from(options.repair);
    }
    Ok(report)
}

/// Files of the folder of uploads that belong to no upload.
async fn check_stray_uploads(
    tables: &FileTables,
    store: &Store,
    options: FileCheckOptions,
    report: &mut CheckReport,
) -> Result<(), BootError> {
    let folder = store.folder();
    // Before the rows: an upload has its row before its file.
    let there = store.disk().run(move || folder.uploads()).await.map_err(system(UPLOADS_FAULT))?;
    for some in there.chunks(UPLOADS_AT_ONCE) {
        let known = tables.known_uploads(some).await.map_err(BootError::Refused)?;
        for file in some.iter().copied().filter(|file| !known.contains(file)) {
            let folder = store.folder();
            // It may have gone before its row was looked for.
            let Some(bytes) =
                store.disk().run(move || folder.upload_size(file)).await.map_err(system(UPLOADS_FAULT))?
            else {
                continue;
            };
            report
                .found(&format!("The file uploads/{} has {bytes} bytes, and no upload. --repair removes it.", file.0));
            if options.repair {
                store.remove_upload(file).await.map_err(system("cannot remove an upload"))?;
                report.repaired += 1;
            }
        }
    }
    Ok(())
}

/// Uploads of which the disk has fewer bytes than were acknowledged. If servers share the database, an upload without a
/// file is another server's.
async fn check_short_uploads(
    tables: &FileTables,
    store: &Store,
    is_shared: bool,
    report: &mut CheckReport,
) -> Result<(), BootError> {
    let mut after = FileId(0);
    loop {
        let page = tables.uploads(after, UPLOADS_AT_ONCE as i64).await.map_err(BootError::Refused)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.file;
        for AwaitedUpload { file, received } in page {
            let folder = store.folder();
            let found = store.disk().run(move || folder.upload_size(file)).await;
            let found = found.map_err(system(UPLOADS_FAULT))?;
            let has = found.unwrap_or(0);
            // The row is read again, because the upload may have ended meanwhile.
            if has >= received
                || (found.is_none() && is_shared)
                || tables.received(file).await.map_err(BootError::Refused)? < received
            {
                continue;
            }
            report.found(&format!(
                "Upload {} has {has} bytes on the disk, and {received} were acknowledged. Its user must upload the \
                 file again.",
                file.0
            ));
        }
    }
}

async fn check_part(
    tables: &FileTables,
    store: &Store,
    options: FileCheckOptions,
    first: u8,
    report: &mut CheckReport,
) -> Result<(), BootError> {
    let stored = store.contents(first).await.map_err(system("cannot list the store of files"))?;
    let named = tables.contents(first).await.map_err(BootError::Refused)?;
    let leaving = tables.removals(first).await.map_err(BootError::Refused)?;
    let known: HashSet<ContentName> = named.iter().map(|content| content.name).chain(leaving).collect();
    for name in stored.iter().filter(|name| !known.contains(name)) {
        if tables.is_known(name).await.map_err(BootError::Refused)? {
            continue;
        }
        report.found(&format!("Content {name} is stored, and no file needs it. --repair removes it."));
        if options.repair {
            store.remove_content(*name).await.map_err(system("cannot remove content"))?;
            report.repaired += 1;
        }
    }
    for content in named.iter().filter(|content| content.is_needed) {
        report.checked += 1;
        report.bytes += content.size;
        if let Some(fault) = fault(store, content, options.deep).await?
            && tables.is_needed(&content.name).await.map_err(BootError::Refused)?
        {
            let files = tables.files_with(&content.name.hash).await.map_err(BootError::Refused)?;
            let users = tables.users_with(&content.name.hash).await.map_err(BootError::Refused)?;
            let (files, users) = (files.iter().map(|file| file.0), users.iter().map(|user| user.0));
            let needed_by = [listed("Files", files), listed("Pictures of users", users)].concat();
            report.found(&format!("Content {} {fault}.{needed_by} Restore it from a backup.", content.name));
        }
    }
    Ok(())
}

/// What is wrong with content that a file needs.
async fn fault(store: &Store, content: &NamedContent, deep: bool) -> Result<Option<String>, BootError> {
    let read = system("cannot read the store of files");
    let name = content.name;
    Ok(match store.size(name).await {
        Ok(None) => Some("is missing".to_owned()),
        Ok(Some(size)) if size != content.size => Some(format!("has {size} bytes instead of {}", content.size)),
        Ok(Some(_)) if deep => {
            let hashed = match store.open(name).await {
                Ok(mut opened) => store.disk().run(move || ContentHash::of(&mut opened)).await,
                Err(error) => Err(error),
            };
            (hashed.map_err(read)? != name.hash).then(|| "has other bytes than were checked".to_owned())
        }
        Ok(Some(_)) => None,
        Err(error) => return Err(read(error)),
    })
}

/// A sentence with these numbers; nothing if there are none.
fn listed(what: &str, numbers: impl Iterator<Item = i64>) -> String {
    let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
    if numbers.is_empty() { String::new() } else { format!(" {what}: {}.", numbers.join(", ")) }
}
