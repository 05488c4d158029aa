//! A folder of this machine: uploads under their numbers, and content under its names.
//!
//! ```text
//!   uploads/17               an upload, append only
//!   blobs/ab/cd/abcd….3      content; two levels of folders keep each of them small
//!   work/                    what is being made of content, in a folder for each
//!   parts/abcd….3.R          uploads of content to a bucket that go on, or were cut short: see `bucket`
//! ```
//!
//! Invariants:
//! - what [`Upload::keep`] has returned for survives a crash: the bytes and the name are on the disk by then;
//! - content appears under its name complete or not at all: it is renamed there;
//! - no name comes from a user, so none can lead out of the folder.
//!
//! All functions block; they run on [`super::disk`]. PostgreSQL says what should be there: `storage::files`.

use crate::files::content::ContentName;
use crate::ids::FileId;
use nix::sys::statvfs::fstatvfs;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The folder of a server's files; cloning shares it.
#[derive(Clone, Debug)]
pub struct Folder(Arc<FolderInner>);

#[derive(Debug)]
struct FolderInner {
    root: PathBuf,
    keep_free: u64,
}

/// What is known of an upload in parts to a bucket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PartsRecord {
    /// The file of this record.
    pub(super) path: PathBuf,
    /// The content.
    pub(super) name: ContentName,
    /// What the bucket calls the upload.
    pub(super) upload: String,
}

/// An upload that is open for more bytes.
#[derive(Debug)]
pub struct Upload {
    file: File,
    keep_free: u64,
}

impl Folder {
    /// The folder `root`, made if it is missing. Uploads leave `keep_free` bytes of its disk free.
    ///
    /// # Errors
    /// The system's.
    pub fn open(root: &Path, keep_free: u64) -> io::Result<Self> {
        for folder in ["uploads", "blobs", "work", "parts"] {
            fs::create_dir_all(root.join(folder))?;
        }
        // Content is as private as the database: nobody else on this machine reads it.
        fs::set_permissions(root, fs::Permissions::from_mode(0o700))?;
        File::open(root)?.sync_all()?;
        Ok(Self(Arc::new(FolderInner { root: root.to_owned(), keep_free })))
    }

    fn upload_path(&self, file: FileId) -> PathBuf {
        self.0.root.join("uploads").join(file.0.to_string())
    }

    fn blob_path(&self, name: &ContentName) -> PathBuf {
        let name = name.to_string();
        self.0.root.join("blobs").join(&name[..2]).join(&name[2..4]).join(name)
    }

    /// A new folder for what is made of content. It goes with the returned guard.
    ///
    /// # Errors
    /// The system's.
    pub fn work_folder(&self) -> io::Result<tempfile::TempDir> {
        tempfile::tempdir_in(self.0.root.join("work"))
    }

    /// A new file without a name, for a copy of content. It goes when it is closed, also by a crash.
    ///
    /// # Errors
    /// The system's.
    pub fn work_file(&self) -> io::Result<Upload> {
        let file = tempfile::tempfile_in(self.0.root.join("work"))?;
        Ok(Upload { file, keep_free: self.0.keep_free })
    }

    /// A record that no other upload in parts has. It is not written yet.
    pub(super) fn parts_record(&self, name: &ContentName, upload: String) -> PartsRecord {
        let path = self.0.root.join("parts").join(format!("{name}.{:016x}", rand::random::<u64>()));
        PartsRecord { path, name: *name, upload }
    }

    /// Returns when the record is on the disk.
    ///
    /// # Errors
    /// The system's.
    #[allow(clippy::unused_self)] // records are below this folder
    pub(super) fn record_parts(&self, record: &PartsRecord) -> io::Result<()> {
        let mut file = File::create_new(&record.path)?;
        file.write_all(record.upload.as_bytes())?;
        file.sync_all()?;
        sync_folder(&record.path)
    }

    /// Removes a record, if it is there.
    ///
    /// # Errors
    /// The system's.
    #[allow(clippy::unused_self)]
    pub(super) fn forget_parts(&self, record: &PartsRecord) -> io::Result<()> {
        removed_file(&record.path)
    }

    /// All records. There are as many as uploads in parts went on when processes died, and that go on now.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn recorded_parts(&self) -> io::Result<Vec<PartsRecord>> {
        let mut records = Vec::new();
        for entry in fs::read_dir(self.0.root.join("parts"))? {
            let entry = entry?;
            let name = entry.file_name();
            let name =
                name.to_str().and_then(|name| name.rsplit_once('.')).and_then(|(name, _)| ContentName::parse(name));
            let Some(name) = name else { continue };
            match fs::read_to_string(entry.path()) {
                Ok(upload) => records.push(PartsRecord { path: entry.path(), name, upload }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {} // it has just ended
                Err(error) => return Err(error),
            }
        }
        Ok(records)
    }

    /// Opens an upload that has `received` bytes. More than that were not acknowledged, and are cut off.
    ///
    /// # Errors
    /// The system's; `UnexpectedEof` if it has fewer bytes.
    pub fn resume(&self, file: FileId, received: u64) -> io::Result<Upload> {
        let path = self.upload_path(file);
        let mut open = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        let length = open.metadata()?.len();
        if length < received {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{length} bytes of {received} are left")));
        }
        open.set_len(received)?;
        open.seek(SeekFrom::Start(received))?;
        if received == 0 {
            sync_folder(&path)?;
        }
        Ok(Upload { file: open, keep_free: self.0.keep_free })
    }

    /// Gives every upload a second name in the folder `to` on the same disk, unless it has one there. So its bytes stay
    /// when it becomes content, or is removed.
    ///
    /// # Errors
    /// The system's.
    pub fn link_uploads(&self, to: &Path) -> io::Result<()> {
        for file in self.uploads()? {
            match fs::hard_link(self.upload_path(file), to.join(file.0.to_string())) {
                Err(error) if !matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The bytes of an upload.
    ///
    /// # Errors
    /// The system's; `NotFound` if there is none.
    pub fn read_upload(&self, file: FileId) -> io::Result<File> {
        File::open(self.upload_path(file))
    }

    /// Content.
    ///
    /// # Errors
    /// The system's; `NotFound` if it is not there.
    pub fn read_content(&self, name: &ContentName) -> io::Result<File> {
        File::open(self.blob_path(name))
    }

    /// Makes an upload the content of this name. If the content is there already, the upload is removed.
    ///
    /// # Errors
    /// The system's; `NotFound` if there is neither.
    pub fn take_upload(&self, file: FileId, name: &ContentName) -> io::Result<()> {
        self.take(&self.upload_path(file), name)
    }

    /// Makes a file on the same disk the content of this name. If the content is there already, the file is removed.
    ///
    /// # Errors
    /// The system's; `NotFound` if there is neither.
    pub fn take(&self, from: &Path, name: &ContentName) -> io::Result<()> {
        let to = self.blob_path(name);
        if to.try_exists()? {
            return removed_file(from);
        }
        prepare(from, &to)?;
        fs::rename(from, &to)?;
        sync_folder(&to)
    }

    /// Gives an upload the name of content too. Nothing writes to a complete upload, so both can share their bytes.
    ///
    /// # Errors
    /// The system's; `NotFound` if there is neither the upload nor the content.
    pub fn link_upload(&self, file: FileId, name: &ContentName) -> io::Result<()> {
        let (from, to) = (self.upload_path(file), self.blob_path(name));
        if to.try_exists()? {
            return Ok(());
        }
        prepare(&from, &to)?;
        fs::hard_link(&from, &to)?;
        sync_folder(&to)
    }

    /// Removes an upload, if it is there.
    ///
    /// # Errors
    /// The system's.
    pub fn remove_upload(&self, file: FileId) -> io::Result<()> {
        removed_file(&self.upload_path(file))
    }

    /// Removes content, if it is there.
    ///
    /// # Errors
    /// The system's.
    pub fn remove_content(&self, name: &ContentName) -> io::Result<()> {
        removed_file(&self.blob_path(name))
    }

    /// Removes what was being made by a process that is gone.
    ///
    /// # Errors
    /// The system's.
    pub fn remove_old_work(&self, age: Duration) -> io::Result<()> {
        for entry in fs::read_dir(self.0.root.join("work"))? {
            let path = entry?.path();
            if is_old(&path, age)? {
                removed(fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)))?;
            }
        }
        Ok(())
    }

    /// The numbers of uploads that nothing was written to for this long.
    ///
    /// # Errors
    /// The system's.
    pub fn old_uploads(&self, age: Duration) -> io::Result<Vec<FileId>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.0.root.join("uploads"))? {
            let entry = entry?;
            let number = entry.file_name().to_str().and_then(|name| name.parse().ok()).map(FileId);
            if let Some(file) = number
                && is_old(&entry.path(), age)?
            {
                found.push(file);
            }
        }
        Ok(found)
    }

    /// The numbers of all uploads. Files that have no number are not ours, and are left out.
    ///
    /// # Errors
    /// The system's.
    pub fn uploads(&self) -> io::Result<Vec<FileId>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.0.root.join("uploads"))? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.parse().ok().filter(|id: &i64| id.to_string() == name));
            found.extend(number.map(FileId));
        }
        Ok(found)
    }

    /// The bytes that an upload has on the disk; `None` if it is not there.
    ///
    /// # Errors
    /// The system's.
    pub fn upload_size(&self, file: FileId) -> io::Result<Option<u64>> {
        match fs::metadata(self.upload_path(file)) {
            Ok(found) => Ok(Some(found.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the disk has room for this many bytes, beside what must stay free.
    ///
    /// # Errors
    /// The system's; `StorageFull` if not.
    pub fn require_room(&self, bytes: u64) -> io::Result<()> {
        has_room(&File::open(&self.0.root)?, self.0.keep_free, bytes)
    }

    /// The names of all content, in the folders whose names begin with `prefix`: two hexadecimal digits. Files that
    /// have no such name are not ours, and are left out.
    ///
    /// # Errors
    /// The system's.
    pub fn contents(&self, prefix: u8) -> io::Result<Vec<ContentName>> {
        let mut names = Vec::new();
        let outer = match fs::read_dir(self.0.root.join("blobs").join(format!("{prefix:02x}"))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
            outer => outer?,
        };
        for inner in outer {
            let inner = inner?;
            if inner.file_type()?.is_dir() {
                for entry in fs::read_dir(inner.path())? {
                    names.extend(entry?.file_name().to_str().and_then(ContentName::parse));
                }
            }
        }
        Ok(names)
    }
}

impl Upload {
    /// Appends bytes.
    ///
    /// # Errors
    /// The system's; `StorageFull` for a disk that is full, or would have less left than must stay free.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        has_room(&self.file, self.keep_free, bytes.len() as u64)?;
        self.file.write_all(bytes)
    }

    /// Returns when everything that was appended is on the disk.
    ///
    /// # Errors
    /// The system's.
    pub fn keep(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The file, at its start.
    ///
    /// # Errors
    /// The system's.
    pub fn into_file(mut self) -> io::Result<File> {
        self.file.seek(SeekFrom::Start(0)).map(|_| self.file)
    }

    /// Forgets what was appended after the first `length` bytes.
    ///
    /// # Errors
    /// The system's.
    pub fn cut(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.file.seek(SeekFrom::Start(length)).map(drop)
    }
}

/// Before a file gets the name of content: its bytes are on the disk, and so are the names of new folders.
fn prepare(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
        for folder in folder.ancestors().take(3) {
            File::open(folder)?.sync_all()?;
        }
    }
    File::open(from)?.sync_all()
}

/// The bytes that are free on the disk of an open file or folder, for users other than root.
///
/// # Errors
/// The system's.
pub fn free_bytes(on_the_disk: &File) -> io::Result<u64> {
    let disk = fstatvfs(on_the_disk)?;
    Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

fn has_room(on_the_disk: &File, keep_free: u64, bytes: u64) -> io::Result<()> {
    if free_bytes(on_the_disk)? < keep_free.saturating_add(bytes) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    Ok(())
}

/// Whether nothing was changed for this long. What has just gone is not old.
fn is_old(path: &Path, age: Duration) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.modified()?.elapsed().is_ok_and(|since| since >= age)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What is not there need not be removed.
fn removed(outcome: io::Result<()>) -> io::Result<()> {
    outcome.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Removes a file, if it is there.
pub(super) fn removed_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder(path),
        failed => removed(failed),
    }
}

/// Returns when the name of a file is on the disk, or its absence.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::content::ContentHash;
    use std::io::Read;

    fn folder(keep_free: u64) -> (tempfile::TempDir, Folder) {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path(), keep_free).unwrap();
        (root, folder)
    }

    fn contents(folder: &Folder) -> Vec<ContentName> {
        (0..=255).flat_map(|prefix| folder.contents(prefix).unwrap()).collect()
    }

    #[test]
    fn an_upload_goes_on_where_its_last_kept_byte_is() {
        let (_root, folder) = folder(0);
        let file = FileId(7);
        let mut upload = folder.resume(file, 0).unwrap();
        upload.append(b"kept, ").unwrap();
        upload.keep().unwrap();
        upload.append(b"and lost").unwrap();
        drop(upload);
        let mut upload = folder.resume(file, 6).unwrap();
        upload.append(b"wrong").unwrap();
        upload.cut(6).unwrap();
        upload.append(b"and found").unwrap();
        upload.keep().unwrap();
        let mut text = String::new();
        folder.read_upload(file).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "kept, and found");
        assert_eq!(folder.resume(file, 99).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn content_is_stored_once_and_leaves_nothing() {
        let (root, folder) = folder(0);
        let mut name = None;
        for file in [FileId(1), FileId(2)] {
            let mut upload = folder.resume(file, 0).unwrap();
            upload.append(b"same").unwrap();
            upload.keep().unwrap();
            let hash = ContentHash::of(&mut folder.read_upload(file).unwrap()).unwrap();
            let name = *name.get_or_insert(ContentName { hash, number: 3 });
            folder.take_upload(file, &name).unwrap();
            assert!(folder.read_content(&name).is_ok());
            folder.take_upload(file, &name).unwrap(); // it can be repeated
        }
        let name = name.unwrap();
        assert_eq!((folder.old_uploads(Duration::ZERO).unwrap(), contents(&folder)), (vec![], vec![name]));
        let at = root.path().join("blobs/09/67/0967115f2813a3541eaef77de9d9d5773f1c0c04314b0bbfe4ff3b3b1c55b5d5.3");
        assert!(at.exists());
        let later = ContentName { number: 4, ..name };
        for _ in 0..2 {
            folder.remove_content(&later).unwrap(); // the same content under another number stays
            assert_eq!(contents(&folder), [name]);
        }
        for _ in 0..2 {
            folder.remove_content(&name).unwrap();
            folder.remove_upload(FileId(1)).unwrap();
        }
        assert_eq!(contents(&folder), []);
        let gone = folder.take_upload(FileId(1), &name).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn uploads_leave_space_on_the_disk() {
        let (_root, folder) = folder(u64::MAX / 2);
        let mut upload = folder.resume(FileId(1), 0).unwrap();
        assert_eq!(upload.append(b"one").unwrap_err().kind(), io::ErrorKind::StorageFull);
        upload.keep().unwrap();
    }

    #[test]
    fn what_was_being_made_before_a_crash_goes() {
        let (_root, folder) = folder(0);
        let work = folder.work_folder().unwrap().keep();
        fs::write(work.join("thumb"), b"x").unwrap();
        folder.remove_old_work(Duration::from_mins(1)).unwrap();
        assert!(work.exists(), "it may still be in use");
        folder.remove_old_work(Duration::ZERO).unwrap();
        assert!(!work.exists());
    }
}
