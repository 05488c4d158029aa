//! The files of an export: a zip, or a folder. What of it is read is JSON and the content of attachments.
//!
//! Invariants:
//! - nothing is extracted under a name of the archive, and a name that leads out of it refuses the whole archive;
//! - an archive is examined before anything of it is read: names that occur twice, links, encryption, entries that
//!   share bytes, and text that grows too much when it is decompressed refuse it;
//! - memory depends on the number of entries only, which is bounded.

use super::fault::{ImportFault, UnreadableExport};
use crate::backup::BackupFault;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};
use zip::{CompressionMethod, ZipArchive};

/// Entries of an archive.
const ENTRIES_MAX: u64 = 1_000_000;
/// Text may grow by this factor when it is decompressed, if it is larger than that.
const GROWTH_MAX: u64 = 250;
const GROWTH_FREE_BYTES: u64 = 64 * 1024 * 1024;
/// The end of a zip: its magic, its least length and the longest comment.
const END_MAGIC: &[u8] = b"PK\x05\x06";
const END_BYTES: usize = 22;
const COMMENT_BYTES_MAX: u64 = 65_535;
/// What the record of the end has if the count is in another record.
const COUNT_ELSEWHERE: u64 = 0xffff;
const LOCATOR_BYTES: usize = 20;
/// Names that programs add to archives.
const FOREIGN_NAMES: [&str; 2] = ["__MACOSX/", ".DS_Store"];

/// A file of an export.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ArchiveEntry {
    /// Its name, with `/` between folders.
    pub(super) name: String,
    /// Its bytes.
    pub(super) size: u64,
    index: usize,
}

/// The files of an export.
pub(super) struct Archive {
    path: PathBuf,
    zip: Option<ZipArchive<File>>,
    entries: Vec<ArchiveEntry>,
    by_name: HashMap<String, usize>,
}

/// Whether a file is a zip.
pub(super) fn is_zip(path: &Path) -> Result<bool, ImportFault> {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(4).read_to_end(&mut head));
    read.map_err(BackupFault::io(format!("cannot read {}", path.display())))?;
    Ok(head == b"PK\x03\x04" || head == b"PK\x05\x06")
}

fn refused(why: impl Into<String>) -> ImportFault {
    UnreadableExport { file: None, item: None, reason: why.into() }.into()
}

impl Archive {
    /// Examines a zip or a folder.
    pub(super) fn open(path: &Path) -> Result<Self, ImportFault> {
        let (zip, entries) = if path.is_dir() {
            (None, folder_entries(path)?)
        } else {
            let (zip, entries) = zip_entries(path)?;
            (Some(zip), entries)
        };
        let by_name = entries.iter().enumerate().map(|(at, entry)| (entry.name.clone(), at)).collect();
        Ok(Self { path: path.to_owned(), zip, entries, by_name })
    }

    /// All files, by their names.
    pub(super) fn entries(&self) -> &[ArchiveEntry] {
        &self.entries
    }

    /// The file of a name.
    pub(super) fn find(&self, name: &str) -> Option<&ArchiveEntry> {
        self.by_name.get(name).map(|at| &self.entries[*at])
    }

    /// The content of a file. It ends with an error if it is damaged.
    pub(super) fn read(&mut self, entry: &ArchiveEntry) -> io::Result<Box<dyn Read + '_>> {
        match &mut self.zip {
            None => {
                let file = File::open(self.path.join(&entry.name))?;
                Ok(Box::new(file))
            }
            Some(zip) => {
                let content = zip.by_index(entry.index).map_err(io::Error::other)?;
                // A byte more than it says is seen, and refused by the reader of the content.
                Ok(Box::new(content.take(entry.size.saturating_add(1))))
            }
        }
    }
}

/// A name without a folder above it; `None` if it leads out of the archive.
fn checked_name(name: &str) -> Option<String> {
    if name.contains('\\') || name.chars().any(char::is_control) {
        return None;
    }
    let mut parts = Vec::new();
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn is_foreign(name: &str) -> bool {
    name.starts_with(FOREIGN_NAMES[0]) || name.rsplit('/').next() == Some(FOREIGN_NAMES[1])
}

fn is_text(name: &str) -> bool {
    let name = name.as_bytes();
    name.ends_with(b".json") || name.ends_with(b".jsonl")
}

fn zip_entries(path: &Path) -> Result<(ZipArchive<File>, Vec<ArchiveEntry>), ImportFault> {
    let mut file = File::open(path).map_err(BackupFault::io(format!("cannot read {}", path.display())))?;
    let count = entry_count(&mut file).map_err(BackupFault::io(format!("cannot read {}", path.display())))?;
    let count = count.ok_or_else(|| refused("the zip ends before its end. Copy it or make the export again"))?;
    if count > ENTRIES_MAX {
        return Err(refused(format!("the zip has {count} entries, and at most {ENTRIES_MAX} are read")));
    }
    let damaged = |error: zip::result::ZipError| refused(format!("the zip is damaged: {error}"));
    let mut zip = ZipArchive::new(file).map_err(damaged)?;
    if zip.has_duplicate_names() || zip.len() as u64 != count {
        return Err(refused("the zip has two entries with the same name"));
    }
    let mut entries = Vec::new();
    let (mut text, mut packed_text) = (0_u64, 0_u64);
    for index in 0..zip.len() {
        let entry = zip.by_index_raw(index).map_err(damaged)?;
        let raw = entry.name_raw();
        let shown = String::from_utf8_lossy(raw).chars().filter(|c| !c.is_control()).take(100).collect::<String>();
        let name = std::str::from_utf8(raw).ok().and_then(checked_name);
        let Some(name) = name else {
            return Err(refused(format!("the zip has an entry whose name leads out of it: {shown:?}")));
        };
        if entry.is_symlink() {
            return Err(refused(format!("the zip has a link: {shown:?}")));
        }
        if entry.encrypted() {
            return Err(refused(format!("the zip is encrypted: {shown:?}")));
        }
        if !matches!(entry.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
            return Err(refused(format!(
                "{shown:?} is compressed by {}, and only deflate is read",
                entry.compression()
            )));
        }
        if entry.is_dir() || is_foreign(&name) {
            continue;
        }
        if is_text(&name) {
            text = text.saturating_add(entry.size());
            packed_text = packed_text.saturating_add(entry.compressed_size());
        }
        entries.push(ArchiveEntry { name, size: entry.size(), index });
    }
    if text > GROWTH_FREE_BYTES && text / GROWTH_MAX > packed_text {
        return Err(refused(format!(
            "the text of the zip grows from {packed_text} to {text} bytes when it is decompressed. No chat does that"
        )));
    }
    if zip.has_overlapping_entries().map_err(damaged)? {
        return Err(refused("entries of the zip share bytes, which no program for zip files makes"));
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    if entries.windows(2).any(|pair| pair[0].name == pair[1].name) {
        return Err(refused("the zip has two entries with the same name"));
    }
    Ok((zip, entries))
}

/// How many entries a zip says that it has, before memory is taken for them.
fn entry_count(file: &mut File) -> io::Result<Option<u64>> {
    let length = file.seek(SeekFrom::End(0))?;
    let tail_length = length.min(COMMENT_BYTES_MAX + (END_BYTES + LOCATOR_BYTES) as u64);
    file.seek(SeekFrom::Start(length - tail_length))?;
    let mut tail = vec![0; tail_length as usize];
    file.read_exact(&mut tail)?;
    let Some(end) = (0..=tail.len().saturating_sub(END_BYTES)).rev().find(|at| tail[*at..].starts_with(END_MAGIC))
    else {
        return Ok(None);
    };
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    if end + END_BYTES > tail.len() {
        return Ok(None);
    }
    let count = number(&tail[end + 10..end + 12]);
    if count != COUNT_ELSEWHERE || end < LOCATOR_BYTES || !tail[end - LOCATOR_BYTES..].starts_with(b"PK\x06\x07") {
        return Ok(Some(count));
    }
    let at = number(&tail[end - 12..end - 4]);
    file.seek(SeekFrom::Start(at))?;
    let mut record = [0; 40];
    file.read_exact(&mut record)?;
    Ok(record.starts_with(b"PK\x06\x06").then(|| number(&record[32..40])))
}

/// Folders of an export have one level of folders.
fn folder_entries(root: &Path) -> Result<Vec<ArchiveEntry>, ImportFault> {
    fn add(root: &Path, prefix: &str, entries: &mut Vec<ArchiveEntry>) -> Result<(), ImportFault> {
        let folder = root.join(prefix);
        let unread = || BackupFault::io(format!("cannot read {}", folder.display()));
        for found in fs::read_dir(&folder).map_err(unread())? {
            let found = found.map_err(unread())?;
            let about = found.file_type().map_err(unread())?;
            let shown = found.file_name().to_string_lossy().into_owned();
            if about.is_symlink() {
                return Err(refused(format!("the folder has a link: {shown:?}")));
            }
            let Some(name) = found.file_name().to_str().and_then(checked_name) else {
                return Err(refused(format!("the folder has a name that is not UTF-8: {shown:?}")));
            };
            if entries.len() as u64 >= ENTRIES_MAX {
                return Err(refused(format!("the folder has more than {ENTRIES_MAX} files")));
            }
            if about.is_dir() && prefix.is_empty() {
                add(root, &format!("{name}/"), entries)?;
            } else if about.is_file() && !is_foreign(&name) {
                let size = found.metadata().map_err(unread())?.len();
                entries.push(ArchiveEntry { name: format!("{prefix}{name}"), size, index: 0 });
            }
        }
        Ok(())
    }
    let mut entries = Vec::new();
    add(root, "", &mut entries)?;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    fn zip_of(names: &[&str]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = ZipWriter::new(file.reopen().unwrap());
        for name in names {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(b"[]").unwrap();
        }
        writer.finish().unwrap();
        file
    }

    fn fault(path: &Path) -> String {
        Archive::open(path).err().map(|fault| fault.to_string()).unwrap_or_default()
    }

    #[test]
    fn names_that_lead_out_refuse_an_archive() {
        for name in ["../x.json", "a/../../x.json", "/etc/passwd", "a\\..\\x", "a/\u{7}.json"] {
            let found = fault(zip_of(&["users.json", name]).path());
            assert!(found.contains("leads out of it"), "{name}: {found}");
        }
        let archive = Archive::open(zip_of(&["b/1.json", "./a.json", "__MACOSX/a", "b/.DS_Store"]).path()).unwrap();
        let names: Vec<&str> = archive.entries().iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["a.json", "b/1.json"]);
    }

    #[test]
    fn damaged_and_hostile_archives_are_refused() {
        let whole = fs::read(zip_of(&["users.json", "a/1.json"]).path()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.zip");
        let says = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            fault(&path)
        };
        assert!(says(&whole[..whole.len() - 10]).contains("before its end"));
        assert!(says(b"PK\x03\x04").contains("before its end"));
        // Both entries of the directory get the same name.
        let text = String::from_utf8_lossy(&whole).into_owned();
        assert!(text.contains("a/1.json"));
        let mut twice = whole.clone();
        for at in 0..twice.len() - 8 {
            if twice[at..].starts_with(b"a/1.json") {
                twice[at..at + 8].copy_from_slice(b"./a.json");
            }
        }
        let twice_more = zip_of(&["a.json", "b/1.json"]);
        assert!(fault(twice_more.path()).is_empty() && says(&twice).is_empty());
        let same = zip_of(&["a.json", "./a.json"]);
        assert!(fault(same.path()).contains("same name"));
        let mut many = whole.clone();
        let end = many.len() - END_BYTES;
        many[end + 8..end + 12].copy_from_slice(&[0xfe, 0xff, 0xfe, 0xff]);
        assert!(!says(&many).is_empty());
    }

    #[test]
    fn text_that_grows_too_much_is_a_bomb() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = ZipWriter::new(file.reopen().unwrap());
        writer.start_file("import.jsonl", SimpleFileOptions::default()).unwrap();
        let zeros = vec![b' '; 1024 * 1024];
        for _ in 0..80 {
            writer.write_all(&zeros).unwrap();
        }
        writer.finish().unwrap();
        assert!(fault(file.path()).contains("No chat does that"));
    }

    #[test]
    fn links_refuse_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("users.json"), "[]").unwrap();
        fs::create_dir(folder.path().join("general")).unwrap();
        fs::write(folder.path().join("general/2024-01-01.json"), "[]").unwrap();
        let mut archive = Archive::open(folder.path()).unwrap();
        let entry = archive.find("general/2024-01-01.json").unwrap().clone();
        let mut text = String::new();
        archive.read(&entry).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "[]");
        std::os::unix::fs::symlink("/etc", folder.path().join("etc")).unwrap();
        assert!(fault(folder.path()).contains("has a link"));
    }
}
