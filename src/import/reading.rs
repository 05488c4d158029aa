//! Reads a dump on a thread of its own: a plain file, or one that `pg_restore` prints as SQL.
//!
//! A dump in a format of `pg_restore` (custom, tar, a folder) may be hostile too. `pg_restore` only converts it here:
//! it gets no database, and what it prints is parsed like any other dump.

use super::dump::DumpReader;
use super::fault::ImportFault;
use super::legacy::{DumpCounts, LegacySink, SinkClosed, StagedLines};
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

/// The bytes of a file; `None` for a dump that `pg_restore` converts.
pub(super) fn plain_size(dump: &Path) -> Result<Option<u64>, ImportFault> {
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

/// Reads all of a dump, and sends its rows as lines for staging tables. Blocks.
pub(super) fn read_dump(
    dump: &Path,
    progress: &ReadProgress,
    lines: &Sender<StagedLines>,
) -> Result<DumpCounts, ImportFault> {
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
