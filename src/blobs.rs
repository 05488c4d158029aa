//! The bytes of files on the disk: uploads under their numbers, and content under its SHA-256.
//!
//! ```text
//!   data_dir/files/uploads/17            an upload, append only
//!   data_dir/files/blobs/ab/cd/abcd…     content; two levels of folders keep each of them small
//! ```
//!
//! Invariants:
//! - what [`Upload::keep`] has returned for survives a crash: the bytes and the names are on the disk by then;
//! - content appears under its hash complete or not at all: it is renamed there;
//! - no name comes from a user, so none can lead out of the folder.
//!
//! All functions block; callers run them on threads for that. PostgreSQL says what should be there: `storage::files`.

use crate::ids::FileId;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The SHA-256 of content.
pub type ContentHash = [u8; 32];

/// Bytes that one read of [`hash`] takes.
const HASH_CHUNK_BYTES: usize = 256 * 1024;

/// The folder of a server's files; cloning shares it.
#[derive(Clone, Debug)]
pub struct Folder(Arc<PathBuf>);

/// An upload that is open for more bytes.
#[derive(Debug)]
pub struct Upload {
    file: File,
}

impl Folder {
    /// The folder `root`, made if it is missing.
    ///
    /// # Errors
    /// The system's.
    pub fn open(root: &Path) -> io::Result<Self> {
        for folder in ["uploads", "blobs"] {
            fs::create_dir_all(root.join(folder))?;
        }
        File::open(root)?.sync_all()?;
        Ok(Self(Arc::new(root.to_owned())))
    }

    fn upload_path(&self, file: FileId) -> PathBuf {
        self.0.join("uploads").join(file.0.to_string())
    }

    fn blob_path(&self, hash: &ContentHash) -> PathBuf {
        let name = hexadecimal(hash);
        self.0.join("blobs").join(&name[..2]).join(&name[2..4]).join(name)
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
        Ok(Upload { file: open })
    }

    /// The bytes of an upload, or of the content that it has become.
    ///
    /// # Errors
    /// The system's; `NotFound` if there is neither.
    pub fn read(&self, file: FileId, hash: Option<&ContentHash>) -> io::Result<File> {
        match (File::open(self.upload_path(file)), hash) {
            (Err(error), Some(hash)) if error.kind() == io::ErrorKind::NotFound => self.read_blob(hash),
            (opened, _) => opened,
        }
    }

    /// Content.
    ///
    /// # Errors
    /// The system's.
    pub fn read_blob(&self, hash: &ContentHash) -> io::Result<File> {
        File::open(self.blob_path(hash))
    }

    /// Makes an upload the content of this hash. If the content is there already, the upload is removed. The caller
    /// holds the lock of the row in `blobs`.
    ///
    /// # Errors
    /// The system's.
    pub fn store(&self, file: FileId, hash: &ContentHash) -> io::Result<()> {
        let (from, to) = (self.upload_path(file), self.blob_path(hash));
        if to.exists() {
            return self.remove_upload(file);
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
            // The names of new folders are on the disk before anything in them is promised.
            for folder in folder.ancestors().take(3) {
                File::open(folder)?.sync_all()?;
            }
        }
        fs::rename(&from, &to)?;
        sync_folder(&to)
    }

    /// Removes an upload, if it is there.
    ///
    /// # Errors
    /// The system's.
    pub fn remove_upload(&self, file: FileId) -> io::Result<()> {
        removed(&self.upload_path(file))
    }

    /// Removes content, if it is there. The caller holds the lock of the row in `blobs`.
    ///
    /// # Errors
    /// The system's.
    pub fn remove_blob(&self, hash: &ContentHash) -> io::Result<()> {
        removed(&self.blob_path(hash))
    }

    /// The numbers of uploads that nothing was written to for this long, at most so many.
    ///
    /// # Errors
    /// The system's.
    pub fn old_uploads(&self, age: Duration, most: usize) -> io::Result<Vec<FileId>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.0.join("uploads"))? {
            let entry = entry?;
            let is_old = entry.metadata()?.modified()?.elapsed().is_ok_and(|since| since >= age);
            let number = entry.file_name().to_str().and_then(|name| name.parse().ok()).map(FileId);
            found.extend(number.filter(|_| is_old));
            if found.len() >= most {
                break;
            }
        }
        Ok(found)
    }

    /// What is on the disk: the numbers of uploads, and the hashes of content.
    ///
    /// # Errors
    /// The system's.
    pub fn list(&self) -> io::Result<(Vec<FileId>, Vec<ContentHash>)> {
        let mut uploads = Vec::new();
        for entry in fs::read_dir(self.0.join("uploads"))? {
            uploads.extend(entry?.file_name().to_str().and_then(|name| name.parse().ok()).map(FileId));
        }
        let (mut blobs, mut folders) = (Vec::new(), vec![self.0.join("blobs")]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else {
                    blobs.extend(entry.file_name().to_str().and_then(parse_hash));
                }
            }
        }
        Ok((uploads, blobs))
    }
}

impl Upload {
    /// Appends bytes.
    ///
    /// # Errors
    /// The system's; `StorageFull` for a full disk.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Returns when everything that was appended is on the disk.
    ///
    /// # Errors
    /// The system's.
    pub fn keep(&mut self) -> io::Result<()> {
        self.file.sync_data()
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

/// A hash in hexadecimal digits.
#[must_use]
pub fn hexadecimal(hash: &ContentHash) -> String {
    hash.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// The hash of 64 hexadecimal digits.
#[must_use]
pub fn parse_hash(text: &str) -> Option<ContentHash> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(hash)
}

/// The SHA-256 of everything that a file has, from its start.
///
/// # Errors
/// The system's.
pub fn hash(file: &mut File) -> io::Result<ContentHash> {
    file.seek(SeekFrom::Start(0))?;
    let (mut hasher, mut chunk) = (Sha256::new(), vec![0; HASH_CHUNK_BYTES]);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hasher.finalize().into()),
            n => hasher.update(&chunk[..n]),
        }
    }
}

fn removed(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
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

    fn folder() -> (tempfile::TempDir, Folder) {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        (root, folder)
    }

    #[test]
    fn an_upload_goes_on_where_its_last_kept_byte_is() {
        let (_root, folder) = folder();
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
        folder.read(file, None).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "kept, and found");
        assert_eq!(folder.resume(file, 99).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn content_is_stored_once_and_leaves_nothing() {
        let (root, folder) = folder();
        let hash = Sha256::digest(b"same").into();
        for file in [FileId(1), FileId(2)] {
            let mut upload = folder.resume(file, 0).unwrap();
            upload.append(b"same").unwrap();
            upload.keep().unwrap();
            assert_eq!(super::hash(&mut folder.read(file, None).unwrap()).unwrap(), hash);
            folder.store(file, &hash).unwrap();
            assert!(folder.read(file, Some(&hash)).is_ok(), "found under its hash");
        }
        assert_eq!(folder.list().unwrap(), (vec![], vec![hash]));
        let at = root.path().join("blobs/09/67/0967115f2813a3541eaef77de9d9d5773f1c0c04314b0bbfe4ff3b3b1c55b5d5");
        assert!(at.exists());
        for _ in 0..2 {
            folder.remove_blob(&hash).unwrap();
            folder.remove_upload(FileId(1)).unwrap();
        }
        assert_eq!(folder.list().unwrap(), (vec![], vec![]));
    }

    #[test]
    fn reads_hashes() {
        assert_eq!(parse_hash(&"0f".repeat(32)), Some([15; 32]));
        for bad in ["", "0f", &"0g".repeat(32), &"é".repeat(32)] {
            assert_eq!(parse_hash(bad), None, "{bad}");
        }
    }
}
