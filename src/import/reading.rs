//! Reads a dump on a thread of its own: a plain file, one that `pg_restore` prints as SQL, or an export of another
//! server.
//!
//! A dump in a format of `pg_restore` (custom, tar, a folder) may be hostile too. `pg_restore` only converts it here:
//! it gets no database, and what it prints is parsed like any other dump.

use super::archive::{Archive, ArchiveEntry, is_zip};
use super::contents::Contents;
use super::dump::DumpReader;
use super::elements::{ItemShape, each_item};
use super::fault::{ImportFault, UnreadableExport};
use super::legacy::LegacySink;
use super::mattermost::MattermostReader;
use super::options::{ImportOptions, OldServer};
use super::slack::{LISTS, List, SlackReader};
use super::staged::{DumpCounts, SinkClosed, StagedLines};
use crate::backup::BackupFault;
use crate::backup::dump::DumpPrograms;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc::Sender;

/// Bytes that one read takes.
const READ_BYTES: usize = 1024 * 1024;
/// The beginnings of files that are no plain dump.
const CUSTOM: &[u8] = b"PGDMP";
const TAR_MAGIC: &[u8] = b"ustar";
const TAR_MAGIC_AT: usize = 257;
const COMPRESSED: &[(&[u8], &str)] = &[
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"PK\x03\x04", "zip"),
];

/// How far the reading is.
#[derive(Clone, Default, Debug)]
pub(super) struct ReadProgress {
    read: Arc<AtomicU64>,
}

impl ReadProgress {
    /// Bytes that were read.
    pub(super) fn bytes(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

/// The bytes that will be read, if that is known.
pub(super) fn size_of(options: &ImportOptions) -> Result<Option<u64>, ImportFault> {
    if options.server == OldServer::Veza {
        return plain_size(&options.dump);
    }
    let is_packed = options.dump.is_dir() || is_zip(&options.dump)?;
    let about = std::fs::metadata(&options.dump);
    let about = about.map_err(BackupFault::io(format!("cannot read {}", options.dump.display())))?;
    Ok((!is_packed).then_some(about.len()))
}

/// Reads all of a dump, and sends its rows as lines for staging tables. Blocks.
pub(super) fn read(
    options: &ImportOptions,
    progress: &ReadProgress,
    lines: &Sender<StagedLines>,
) -> Result<DumpCounts, ImportFault> {
    match options.server {
        OldServer::Veza => read_dump(&options.dump, progress, lines),
        OldServer::Mattermost => read_mattermost(options, progress, lines),
        OldServer::Slack => read_slack(options, progress, lines),
    }
}

fn is_named(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

/// The bulk format: a file, or the only one in a zip that has the attachments too.
fn read_mattermost(
    options: &ImportOptions,
    progress: &ReadProgress,
    lines: &Sender<StagedLines>,
) -> Result<DumpCounts, ImportFault> {
    let dump = &options.dump;
    let folder = options.files.as_ref().and_then(|files| files.from.as_deref());
    let is_packed = dump.is_dir() || is_zip(dump)?;
    let contents = Contents::open(is_packed.then_some(dump.as_path()), folder)?;
    let find = |names: &[String]| contents.find(names);
    let give = |staged| lines.blocking_send(staged).map_err(|_| SinkClosed);
    let refused = |reason: &str| UnreadableExport { file: None, item: None, reason: reason.to_owned() };
    let mut archive = is_packed.then(|| Archive::open(dump)).transpose()?;
    let (name, mut bytes): (_, Box<dyn Read + '_>) = match &mut archive {
        None => {
            let file = File::open(dump).map_err(BackupFault::io(format!("cannot read {}", dump.display())))?;
            (None, Box::new(file))
        }
        Some(archive) => {
            let is_bulk = |name: &str| !name.contains('/') && is_named(name, "jsonl");
            let mut bulk = archive.entries().iter().filter(|entry| is_bulk(&entry.name));
            let entry = match (bulk.next().cloned(), bulk.next()) {
                (Some(entry), None) => entry,
                (None, _) => return Err(refused("there is no file NAME.jsonl at the top of the archive").into()),
                (Some(_), Some(_)) => return Err(refused("there are several files NAME.jsonl in the archive").into()),
            };
            let bytes = archive.read(&entry).map_err(|error| refused(&format!("it cannot be read: {error}")))?;
            (Some(entry.name), bytes)
        }
    };
    let mut reader = MattermostReader::new(give, &find, name.clone());
    let counted = |bytes| {
        progress.read.fetch_add(bytes, Ordering::Relaxed);
    };
    match each_item(&mut *bytes, ItemShape::Lines, counted, |number, line| reader.line(number, line)) {
        Ok(read) => read?,
        Err((item, fault)) => {
            return Err(UnreadableExport { file: name, item: Some(item), reason: fault.to_string() }.into());
        }
    };
    reader.finish()
}

/// The export of a workspace: a zip or a folder, of which the files can be in a folder of their own.
fn read_slack(
    options: &ImportOptions,
    progress: &ReadProgress,
    lines: &Sender<StagedLines>,
) -> Result<DumpCounts, ImportFault> {
    let refused = |reason: &str| UnreadableExport { file: None, item: None, reason: reason.to_owned() };
    if !options.dump.is_dir() && !is_zip(&options.dump)? {
        return Err(refused("this is neither a zip nor a folder").into());
    }
    let folder = options.files.as_ref().and_then(|files| files.from.as_deref());
    let contents = Contents::open(None, folder)?;
    let find = |names: &[String]| contents.find(names);
    let give = |staged| lines.blocking_send(staged).map_err(|_| SinkClosed);
    let mut archive = Archive::open(&options.dump)?;
    let entries = archive.entries().to_vec();
    let is_list = |entry: &&ArchiveEntry| LISTS.iter().any(|(list, _)| entry.name.rsplit('/').next() == Some(list));
    let top = entries.iter().filter(is_list).min_by_key(|entry| entry.name.matches('/').count());
    let top = top.ok_or_else(|| refused("there is no users.json or channels.json, so this is no export of Slack"))?;
    let top = top.name.rfind('/').map_or("", |end| &top.name[..=end]).to_owned();
    let mut reader = SlackReader::new(give, &find);
    let mut read = |reader: &mut SlackReader<'_, _>, entry: &ArchiveEntry, folder: &str, list: List| {
        reader.begin(&entry.name, folder, list);
        let mut bytes = archive.read(entry).map_err(|error| reader.fault(1, format!("it cannot be read: {error}")))?;
        let counted = |bytes| {
            progress.read.fetch_add(bytes, Ordering::Relaxed);
        };
        match each_item(&mut *bytes, ItemShape::List, counted, |number, item| reader.item(number, item)) {
            Ok(read) => read.map(drop),
            Err((item, fault)) => Err(reader.fault(item, fault.to_string())),
        }
    };
    for (name, list) in LISTS {
        if let Some(entry) = entries.iter().find(|entry| entry.name.strip_prefix(&top) == Some(name)) {
            read(&mut reader, entry, "", list)?;
        }
    }
    for entry in &entries {
        let name = entry.name.strip_prefix(&top).unwrap_or(&entry.name);
        match name.split_once('/') {
            Some((folder, day)) if is_named(day, "json") && !day.contains('/') => {
                read(&mut reader, entry, folder, List::Messages)?;
            }
            None if LISTS.iter().any(|(list, _)| *list == name) => {}
            _ => reader.left_out(name),
        }
    }
    reader.finish()
}

/// The bytes of a file; `None` for a dump that `pg_restore` converts.
fn plain_size(dump: &Path) -> Result<Option<u64>, ImportFault> {
    let about = std::fs::metadata(dump).map_err(BackupFault::io(format!("cannot read {}", dump.display())))?;
    let is_plain = !about.is_dir() && !needs_conversion(dump)?;
    Ok(is_plain.then_some(about.len()))
}

fn needs_conversion(dump: &Path) -> Result<bool, ImportFault> {
    let mut head = Vec::new();
    let opened = File::open(dump).and_then(|file| file.take(512).read_to_end(&mut head));
    opened.map_err(BackupFault::io(format!("cannot read {}", dump.display())))?;
    if let Some((_, name)) = COMPRESSED.iter().find(|(magic, _)| head.starts_with(magic)) {
        let dump = dump.display();
        return Err(ImportFault::Unfit(format!("{dump} is compressed with {name}: decompress it first")));
    }
    let is_tar = head.get(TAR_MAGIC_AT..).is_some_and(|rest| rest.starts_with(TAR_MAGIC));
    Ok(head.starts_with(CUSTOM) || is_tar)
}

fn read_dump(dump: &Path, progress: &ReadProgress, lines: &Sender<StagedLines>) -> Result<DumpCounts, ImportFault> {
    if plain_size(dump)?.is_some() {
        let file = File::open(dump).map_err(BackupFault::io(format!("cannot read {}", dump.display())))?;
        return parse(file, dump, progress, lines);
    }
    let absolute = dump.canonicalize().map_err(BackupFault::io(format!("cannot read {}", dump.display())))?;
    let (running, output) = DumpPrograms::find()?.print(&absolute)?;
    match parse(output, dump, progress, lines) {
        Ok(counts) => running.finish().map(|()| counts).map_err(ImportFault::from),
        // A dump that pg_restore cannot read ends early, and its own reason is the better one.
        Err(ImportFault::Dump(fault)) if fault.reason == super::dump::FaultReason::Truncated => {
            running.finish()?;
            Err(fault.into())
        }
        Err(fault) => {
            running.abort();
            Err(fault)
        }
    }
}

fn parse(
    mut bytes: impl Read,
    dump: &Path,
    progress: &ReadProgress,
    lines: &Sender<StagedLines>,
) -> Result<DumpCounts, ImportFault> {
    let mut sink = LegacySink::new(|staged| lines.blocking_send(staged).map_err(|_| SinkClosed));
    let mut reader = DumpReader::default();
    let mut chunk = vec![0; READ_BYTES];
    loop {
        let length = match bytes.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(BackupFault::io(format!("cannot read {}", dump.display()))(error).into()),
        };
        reader.feed(&chunk[..length], &mut sink)?;
        progress.read.fetch_add(length as u64, Ordering::Relaxed);
    }
    reader.finish(&mut sink)?;
    let stopped = || ImportFault::Unfit("the import has stopped".to_owned());
    sink.finish().map_err(|SinkClosed| stopped())
}
