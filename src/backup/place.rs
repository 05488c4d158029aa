//! Where a backup is: a folder, or objects below a prefix of a bucket.
//!
//! A new folder is called `NAME.partial` until everything is on the disk. In a bucket the manifest is the last object.
//! Backups in one folder can share files: each has its own name of the file, so that any of them can be removed.
//!
//! The folder's functions wait for the disk on the thread of the command, which has nothing else to do meanwhile.

use super::BackupFault;
use super::manifest::MANIFEST;
use super::name::FILES;
use crate::files::store::bucket::Bucket;
use crate::files::store::bucket::objects::ObjectUpload;
use bytes::Bytes;
use futures_util::StreamExt as _;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::unistd::{geteuid, linkat};
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt, MetadataExt as _, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where backups are kept, or one backup is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BackupPlace {
    /// A folder.
    Folder(PathBuf),
    /// `s3://BUCKET/PREFIX`.
    Bucket {
        /// The name of the bucket.
        bucket: String,
        /// Without a slash at either end.
        prefix: String,
    },
}

impl FromStr for BackupPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("s3://") else {
            return if text.is_empty() { Err("this is no folder".to_owned()) } else { Ok(Self::Folder(text.into())) };
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        let is_name = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if bucket.len() < 3 || !is_name(bucket) {
            return Err("a bucket is given as s3://BUCKET or s3://BUCKET/PREFIX".to_owned());
        }
        if !prefix.is_empty() && prefix.split('/').any(|part| part.is_empty() || part == ".." || !is_name(part)) {
            return Err("a prefix has letters, digits, dots, hyphens and single slashes".to_owned());
        }
        Ok(Self::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl fmt::Display for BackupPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Bucket { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl BackupPlace {
    /// The backup of this name.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        match self {
            Self::Folder(path) => Self::Folder(path.join(name)),
            Self::Bucket { bucket, prefix } if prefix.is_empty() => {
                Self::Bucket { bucket: bucket.clone(), prefix: name.to_owned() }
            }
            Self::Bucket { bucket, prefix } => {
                Self::Bucket { bucket: bucket.clone(), prefix: format!("{prefix}/{name}") }
            }
        }
    }
}

/// A backup that is being written.
pub enum NewPlace {
    /// A folder.
    Folder(NewFolder),
    /// Objects of this bucket, all below its prefix.
    Bucket(Bucket),
}

/// A file or object that is being written.
pub enum PartSink {
    /// A file.
    File(File),
    /// An object.
    Object(Box<ObjectUpload>),
}

/// A folder that has another name until it is complete.
pub struct NewFolder {
    partial: PathBuf,
    complete: PathBuf,
    /// The newest complete backup beside it that has readable content.
    earlier: Option<File>,
}

impl NewFolder {
    /// Makes it. The folders above it are made if they are missing.
    ///
    /// # Errors
    /// The system's; [`BackupFault::Unfit`] if there is such a backup already.
    pub fn begin(complete: PathBuf) -> Result<Self, BackupFault> {
        let mut partial = complete.clone().into_os_string();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        for there in [&complete, &partial] {
            if there.symlink_metadata().is_ok() {
                return Err(BackupFault::Unfit(format!(
                    "{} is there already; choose another --name, or remove it",
                    there.display()
                )));
            }
        }
        private_folders(&partial).map_err(BackupFault::io(format!("cannot make {}", partial.display())))?;
        let earlier = complete.parent().and_then(newest_backup);
        Ok(Self { partial, complete, earlier })
    }

    fn finish(&self, manifest: &[u8]) -> Result<(), BackupFault> {
        let finish = || {
            private_file(&self.partial.join(MANIFEST))?.write_all(manifest)?;
            // One call for all files, of which there may be millions.
            nix::unistd::syncfs(File::open(&self.partial)?)?;
            fs::rename(&self.partial, &self.complete)?;
            match self.complete.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
                _ => File::open(".")?.sync_all(),
            }
        };
        finish().map_err(BackupFault::io(format!("cannot complete {}", self.complete.display())))
    }
}

impl NewPlace {
    /// Objects of this bucket.
    ///
    /// # Errors
    /// The bucket's; [`BackupFault::Unfit`] if there is a backup already.
    pub async fn in_bucket(bucket: Bucket, place: &BackupPlace) -> Result<Self, BackupFault> {
        match bucket.has_object(MANIFEST).await {
            Ok(false) => Ok(Self::Bucket(bucket)),
            Ok(true) => Err(BackupFault::Unfit(format!("{place} is there already; choose another --name"))),
            Err(error) => Err(BackupFault::io(format!("cannot use {place}"))(error)),
        }
    }

    /// A file or object of this path.
    ///
    /// # Errors
    /// The system's.
    pub fn part(&self, path: &str) -> io::Result<PartSink> {
        match self {
            Self::Folder(folder) => {
                let path = folder.partial.join(path);
                path.parent().map_or(Ok(()), private_folders)?;
                private_file(&path).map(PartSink::File)
            }
            Self::Bucket(bucket) => Ok(PartSink::Object(Box::new(bucket.begin_object(path)))),
        }
    }

    /// A file of this path in an earlier backup beside this one, if no other user can change it. What is in it, the
    /// caller finds out.
    #[must_use]
    pub fn earlier_part(&self, path: &str) -> Option<File> {
        let Self::Folder(folder) = self else { return None };
        let file = open_beneath(folder.earlier.as_ref()?, path).ok()?;
        let about = file.metadata().ok()?;
        let is_ours = about.uid() == geteuid().as_raw() && about.mode() & 0o022 == 0;
        is_ours.then_some(file)
    }

    /// Makes a file of an earlier backup a file of this one too.
    ///
    /// # Errors
    /// The system's: the file system has no links, or the file has as many as it may.
    pub fn share(&self, part: &File, path: &str) -> io::Result<()> {
        let Self::Folder(folder) = self else { return Err(io::ErrorKind::Unsupported.into()) };
        let path = folder.partial.join(path);
        path.parent().map_or(Ok(()), private_folders)?;
        // The file that was read, whatever its name leads to now.
        let opened = PathBuf::from(format!("/proc/self/fd/{}", part.as_raw_fd()));
        Ok(linkat(AT_FDCWD, &opened, AT_FDCWD, &path, AtFlags::AT_SYMLINK_FOLLOW)?)
    }

    /// Removes a file or object again.
    ///
    /// # Errors
    /// The system's and the bucket's.
    pub async fn remove(&self, path: &str) -> io::Result<()> {
        match self {
            Self::Folder(folder) => fs::remove_file(folder.partial.join(path)),
            Self::Bucket(bucket) => bucket.remove_object(path).await,
        }
    }

    /// Completes the backup.
    ///
    /// # Errors
    /// The system's and the bucket's.
    pub async fn finish(&self, manifest: &[u8]) -> Result<(), BackupFault> {
        match self {
            Self::Folder(folder) => folder.finish(manifest),
            Self::Bucket(bucket) => {
                let mut object = bucket.begin_object(MANIFEST);
                let written = match object.write(manifest).await {
                    Ok(()) => object.finish().await,
                    Err(error) => Err(error),
                };
                written.map_err(BackupFault::io("cannot write the manifest"))
            }
        }
    }

    /// Removes what was written, as far as that is possible.
    pub async fn discard(&self) {
        match self {
            Self::Folder(folder) => {
                if let Err(error) = fs::remove_dir_all(&folder.partial) {
                    tracing::warn!("cannot remove {}: {error}", folder.partial.display());
                }
            }
            Self::Bucket(bucket) => {
                if let Err(error) = bucket.remove_all_objects().await {
                    tracing::warn!("objects of a backup without a manifest stay in the bucket: {error}");
                }
            }
        }
    }
}

impl PartSink {
    /// Appends bytes.
    ///
    /// # Errors
    /// The system's and the bucket's.
    pub async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(&bytes),
            Self::Object(object) => object.write(&bytes).await,
        }
    }

    /// Completes it. A file reaches the disk with its backup.
    ///
    /// # Errors
    /// The bucket's.
    pub async fn finish(self) -> io::Result<()> {
        match self {
            Self::File(_) => Ok(()),
            Self::Object(object) => object.finish().await,
        }
    }

    /// Forgets an object that cannot be completed. A file goes with its backup.
    pub async fn abort(self) {
        match self {
            Self::File(_) => {}
            Self::Object(object) => object.abort().await,
        }
    }
}

/// A backup that is read.
pub enum OpenPlace {
    /// An open folder.
    Folder(File),
    /// Objects of this bucket, all below its prefix.
    Bucket(Bucket),
}

impl OpenPlace {
    /// Opens a folder.
    ///
    /// # Errors
    /// The system's.
    pub fn folder(path: &Path) -> Result<Self, BackupFault> {
        let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_DIRECTORY.bits()).open(path);
        opened.map(Self::Folder).map_err(BackupFault::io(format!("cannot open the folder {}", path.display())))
    }

    /// A file of the backup. Links are not followed, neither in the path nor at its end, and it is a regular file. Of
    /// an object it is a copy in the system's folder for temporary files, which goes when it is closed.
    ///
    /// # Errors
    /// The system's and the bucket's.
    pub async fn open(&self, path: &str) -> io::Result<File> {
        match self {
            Self::Folder(folder) => open_beneath(folder, path),
            Self::Bucket(bucket) => {
                let mut bytes = bucket.read_object(path).await?;
                let mut copy = tempfile::tempfile()?;
                while let Some(chunk) = bytes.next().await.transpose()? {
                    copy.write_all(&chunk)?;
                }
                copy.seek(SeekFrom::Start(0)).map(|_| copy)
            }
        }
    }
}

/// A regular file below a folder, without following a link.
fn open_beneath(folder: &File, path: &str) -> io::Result<File> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let opened = openat2(folder, path, how).map_err(|errno| match errno {
        nix::errno::Errno::ELOOP => io::Error::other("it is a symbolic link; a backup has none"),
        errno => errno.into(),
    })?;
    let file = File::from(opened);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

/// The complete backup in this folder whose manifest was written last, of those that are not encrypted.
fn newest_backup(folder: &Path) -> Option<File> {
    let written = |backup: &Path| {
        let manifest = backup.join(MANIFEST).symlink_metadata().ok().filter(fs::Metadata::is_file)?;
        backup.join(FILES).symlink_metadata().ok().filter(fs::Metadata::is_dir)?;
        manifest.modified().ok()
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    // Not a link such as `latest`, which has the same manifest as its backup.
    let folders =
        fs::read_dir(folder).ok()?.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let backups = folders.map(|entry| entry.path());
    let newest = backups.filter_map(|backup| Some((written(&backup)?, backup))).max()?.1;
    OpenOptions::new().read(true).custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits()).open(newest).ok()
}

/// Folders that only this user can enter, where they are missing.
fn private_folders(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A new file that only this user can read.
///
/// # Errors
/// The system's; `AlreadyExists` if there is one.
pub fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn shares_regular_files_of_the_newest_complete_backup() {
        let root = tempfile::tempdir().unwrap();
        let backup = |name: &str, parts: &[(&str, &str)]| {
            for (path, content) in parts {
                let path = root.path().join(name).join(path);
                private_folders(path.parent().unwrap()).unwrap();
                private_file(&path).unwrap().write_all(content.as_bytes()).unwrap();
            }
        };
        let read = |new: &NewPlace, path: &str| new.earlier_part(path).map(|file| io::read_to_string(file).unwrap());
        let begin = |name: &str| NewPlace::Folder(NewFolder::begin(root.path().join(name)).unwrap());
        assert_eq!(read(&begin("first"), "files/a/x"), None, "there is no earlier one");
        backup("old", &[("files/a/x", "old"), (MANIFEST, "")]);
        backup("new", &[("files/a/x", "new"), ("files/a/y", "y"), (MANIFEST, "")]);
        let written = std::time::SystemTime::now() - std::time::Duration::from_mins(1);
        File::open(root.path().join("old").join(MANIFEST)).unwrap().set_modified(written).unwrap();
        backup("cut short", &[("files/a/x", "partial")]);
        backup("sealed", &[("parts/x", "sealed"), (MANIFEST, "")]);
        std::os::unix::fs::symlink(root.path().join("new/files/a/y"), root.path().join("new/files/a/z")).unwrap();

        let new = begin("second");
        assert_eq!(read(&new, "files/a/x").as_deref(), Some("new"));
        assert_eq!((read(&new, "files/a/z"), read(&new, "../old/files/a/x")), (None, None), "no link, and no way out");
        let allow = |mode| fs::set_permissions(root.path().join("new/files/a/y"), fs::Permissions::from_mode(mode));
        allow(0o622).unwrap();
        assert_eq!(read(&new, "files/a/y"), None, "others can change it");
        allow(0o600).unwrap();
        assert_eq!(read(&new, "files/a/y").as_deref(), Some("y"));
        let part = new.earlier_part("files/a/x").unwrap();
        // The file that was read is shared, not the one that has its name by now.
        fs::rename(root.path().join("new/files/a/y"), root.path().join("new/files/a/x")).unwrap();
        assert!(new.share(&part, "files/a/x").is_err(), "it has no name any longer");
        let part = new.earlier_part("files/a/x").unwrap();
        new.share(&part, "files/a/x").unwrap();
        fs::remove_dir_all(root.path().join("new")).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("second.partial/files/a/x")).unwrap(), "y");
        assert!(new.share(&part, "files/a/x").is_err(), "it is there already");
    }

    #[test]
    fn reads_places() {
        let bucket = |bucket: &str, prefix: &str| BackupPlace::Bucket { bucket: bucket.into(), prefix: prefix.into() };
        for (text, place) in [
            ("/var/backups", BackupPlace::Folder("/var/backups".into())),
            ("s3://keep", bucket("keep", "")),
            ("s3://keep/chat/", bucket("keep", "chat")),
            ("s3://keep/chat/daily", bucket("keep", "chat/daily")),
        ] {
            assert_eq!(text.parse(), Ok(place), "{text}");
        }
        for bad in ["", "s3://", "s3://x", "s3://keep/../other", "s3://keep/a//b", "s3://keep/a b"] {
            assert!(bad.parse::<BackupPlace>().is_err(), "{bad}");
        }
        assert_eq!(bucket("keep", "").join("n").to_string(), "s3://keep/n");
        assert_eq!(bucket("keep", "chat").join("n").to_string(), "s3://keep/chat/n");
    }
}
