//! The bytes of files.
//!
//! ```text
//!   folder.rs        uploads, and content: files below data_dir/files
//!   bucket.rs        content, if it is in a bucket of S3; uploads stay in the folder until they are checked
//!   bucket/objects.rs   objects under other names, for backups
//!   bucket_http.rs   HTTP to the bucket
//!   disk.rs          the threads that wait for the disk
//! ```
//!
//! Invariants: those of [`folder`] and [`bucket`]; and nothing here decides what is needed. PostgreSQL says so
//! (`storage::files`), and names of content are never used twice, so every function can be repeated, and none needs a
//! lock.

pub mod bucket;
mod bucket_http;
pub mod disk;
pub mod folder;

pub use disk::ByteStream;

use super::content::ContentName;
use crate::ids::FileId;
use bucket::Bucket;
use bytes::{Bytes, BytesMut};
use disk::Disk;
use folder::Folder;
use futures_util::StreamExt as _;
use futures_util::stream;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;

/// Bytes that one read of the disk takes.
const READ_BYTES: usize = 256 * 1024;

/// Where the bytes of files are; cloning shares it.
#[derive(Clone, Debug)]
pub struct Store {
    disk: Disk,
    folder: Folder,
    place: ContentPlace,
}

/// Where content is. Uploads are in the folder.
#[derive(Clone, Debug)]
enum ContentPlace {
    Folder,
    Bucket(Bucket),
}

impl Store {
    /// With content in the folder too.
    #[must_use]
    pub fn in_folder(folder: Folder, disk: Disk) -> Self {
        Self { disk, folder, place: ContentPlace::Folder }
    }

    /// With content in a bucket.
    #[must_use]
    pub fn in_bucket(folder: Folder, bucket: Bucket, disk: Disk) -> Self {
        Self { disk, folder, place: ContentPlace::Bucket(bucket) }
    }

    /// Looks whether the bucket can be used, if there is one, and removes what a crash has left in it.
    ///
    /// # Errors
    /// The bucket's, which names the key of the configuration, and the system's.
    pub async fn probe(&self) -> io::Result<()> {
        let ContentPlace::Bucket(bucket) = &self.place else { return Ok(()) };
        bucket.probe().await.map_err(io::Error::other)?;
        bucket.end_old_parts(&self.disk, &self.folder).await
    }

    /// The threads for blocking work.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The folder of uploads, for work on [`Store::disk`].
    #[must_use]
    pub fn folder(&self) -> Folder {
        self.folder.clone()
    }

    /// Makes an upload the content of this name. It can be repeated.
    ///
    /// # Errors
    /// The system's and the bucket's; `NotFound` if there is neither the upload nor the content.
    pub async fn take_upload(&self, file: FileId, name: ContentName) -> io::Result<()> {
        let folder = self.folder();
        let bucket = match &self.place {
            ContentPlace::Folder => return self.disk.run(move || folder.take_upload(file, &name)).await,
            ContentPlace::Bucket(bucket) => bucket,
        };
        let opened = self.disk.run(move || folder.read_upload(file)).await;
        self.put(bucket, opened, &name).await?;
        self.remove_upload(file).await
    }

    /// Stores the content of an upload under this name too; the upload stays. It can be repeated.
    ///
    /// # Errors
    /// The system's and the bucket's; `NotFound` if there is neither the upload nor the content.
    pub async fn copy_upload(&self, file: FileId, name: ContentName) -> io::Result<()> {
        let folder = self.folder();
        match &self.place {
            ContentPlace::Folder => self.disk.run(move || folder.link_upload(file, &name)).await,
            ContentPlace::Bucket(bucket) => {
                let opened = self.disk.run(move || folder.read_upload(file)).await;
                self.put(bucket, opened, &name).await
            }
        }
    }

    /// Makes a file of a work folder the content of this name. It can be repeated.
    ///
    /// # Errors
    /// The system's and the bucket's; `NotFound` if there is neither the file nor the content.
    pub async fn take(&self, from: PathBuf, name: ContentName) -> io::Result<()> {
        let folder = self.folder();
        let bucket = match &self.place {
            ContentPlace::Folder => return self.disk.run(move || folder.take(&from, &name)).await,
            ContentPlace::Bucket(bucket) => bucket,
        };
        let path = from.clone();
        let opened = self.disk.run(move || File::open(path)).await;
        self.put(bucket, opened, &name).await?;
        self.disk.run(move || folder::removed_file(&from)).await
    }

    async fn put(&self, bucket: &Bucket, opened: io::Result<File>, name: &ContentName) -> io::Result<()> {
        match opened {
            // An earlier attempt has stored it, or nobody has it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => bucket.size(name).await.map(drop),
            opened => bucket.put(&self.disk, &self.folder, opened?, name).await,
        }
    }

    /// A file with content, for work that needs all of it. Of content in a bucket it is a copy, which goes with it.
    ///
    /// # Errors
    /// The system's and the bucket's; `NotFound` if it is not there.
    pub async fn open(&self, name: ContentName) -> io::Result<File> {
        let folder = self.folder();
        let bucket = match &self.place {
            ContentPlace::Folder => return self.disk.run(move || folder.read_content(&name)).await,
            ContentPlace::Bucket(bucket) => bucket,
        };
        let size = bucket.size(&name).await?;
        let mut bytes = bucket.read(&name, 0..size).await?;
        let mut copy = self.disk.run(move || folder.work_file()).await?;
        let mut chunk = BytesMut::with_capacity(READ_BYTES);
        loop {
            let next = bytes.next().await.transpose()?;
            let is_end = next.is_none();
            chunk.extend_from_slice(&next.unwrap_or_default());
            if is_end || chunk.len() >= READ_BYTES {
                let full = chunk.split().freeze();
                copy = self.disk.run(move || copy.append(&full).map(|()| copy)).await?;
            }
            if is_end {
                return self.disk.run(move || copy.into_file()).await;
            }
        }
    }

    /// A part of content.
    ///
    /// # Errors
    /// The system's and the bucket's; `NotFound` if it is not there.
    pub async fn read(&self, name: ContentName, range: Range<u64>) -> io::Result<ByteStream> {
        if let ContentPlace::Bucket(bucket) = &self.place {
            return bucket.read(&name, range).await;
        }
        let folder = self.folder();
        let start = range.start;
        let opened = self.disk.run(move || {
            let mut opened = folder.read_content(&name)?;
            opened.seek(SeekFrom::Start(start)).map(|_| opened)
        });
        Ok(bytes_of(self.disk.clone(), opened.await?, range.end - start))
    }

    /// The names of all content whose hash begins with a byte.
    ///
    /// # Errors
    /// The system's and the bucket's.
    pub async fn contents(&self, first: u8) -> io::Result<Vec<ContentName>> {
        if let ContentPlace::Bucket(bucket) = &self.place {
            return bucket.contents(first).await;
        }
        let folder = self.folder();
        self.disk.run(move || folder.contents(first)).await
    }

    /// The bytes of content; `None` if it is not there.
    ///
    /// # Errors
    /// The system's.
    pub async fn size(&self, name: ContentName) -> io::Result<Option<u64>> {
        let folder = self.folder();
        let size = match &self.place {
            ContentPlace::Bucket(bucket) => bucket.size(&name).await,
            ContentPlace::Folder => {
                self.disk.run(move || folder.read_content(&name)?.metadata().map(|found| found.len())).await
            }
        };
        match size {
            Ok(size) => Ok(Some(size)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes content, if it is there.
    ///
    /// # Errors
    /// The system's and the bucket's.
    pub async fn remove_content(&self, name: ContentName) -> io::Result<()> {
        if let ContentPlace::Bucket(bucket) = &self.place {
            return bucket.remove(&name).await;
        }
        let folder = self.folder();
        self.disk.run(move || folder.remove_content(&name)).await
    }

    /// Removes an upload, if it is there.
    ///
    /// # Errors
    /// The system's.
    pub async fn remove_upload(&self, file: FileId) -> io::Result<()> {
        let folder = self.folder();
        self.disk.run(move || folder.remove_upload(file)).await
    }
}

/// The next `length` bytes of an open file.
#[must_use]
pub fn bytes_of(disk: Disk, file: File, length: u64) -> ByteStream {
    let pieces = stream::try_unfold((disk, file, length), |(disk, mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let read = disk.run(move || {
            let mut chunk = vec![0; READ_BYTES.min(usize::try_from(left).unwrap_or(READ_BYTES))];
            file.read_exact(&mut chunk).map(|()| (Bytes::from(chunk), file))
        });
        let (chunk, file) = read.await?;
        let left = left - chunk.len() as u64;
        Ok(Some((chunk, (disk, file, left))))
    });
    pieces.boxed()
}
