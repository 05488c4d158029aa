//! Objects under names that the caller chooses, for backups: `{prefix}NAME`.
//!
//! An object appears complete or not at all, as for content. Nobody remembers an upload in parts that a crash has cut
//! short: a rule of the bucket (`AbortIncompleteMultipartUpload`) ends it.

use super::{Bucket, PAUSE_MAX, gone};
use crate::files::store::ByteStream;
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use object_store::aws::AmazonS3;
use object_store::multipart::{MultipartStore as _, PartId};
use object_store::path::Path as Key;
use object_store::{GetOptions, MultipartId, ObjectStore as _, ObjectStoreExt as _};
use std::io;
use tokio::time::timeout;

/// Bytes of the first parts. What is not larger goes up in one request.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// Parts after which they are larger, because S3 takes [`PARTS_MAX`] of an object.
const SMALL_PARTS: usize = 1_000;
/// Bytes of these parts.
const LARGE_PART_BYTES: usize = 32 * 1024 * 1024;
/// Parts of an object.
const PARTS_MAX: usize = 10_000;

/// An object that is being written, a part of it in memory.
pub struct ObjectUpload {
    bucket: Bucket,
    key: Key,
    waiting: BytesMut,
    upload: Option<MultipartId>,
    parts: Vec<PartId>,
}

impl Bucket {
    fn object(&self, name: &str) -> Key {
        Key::from(format!("{}{name}", self.0.prefix))
    }

    /// Begins an object.
    #[must_use]
    pub fn begin_object(&self, name: &str) -> ObjectUpload {
        let key = self.object(name);
        ObjectUpload { bucket: self.clone(), key, waiting: BytesMut::new(), upload: None, parts: Vec::new() }
    }

    /// Whether there is such an object.
    ///
    /// # Errors
    /// The bucket's.
    pub async fn has_object(&self, name: &str) -> io::Result<bool> {
        match self.0.objects.head(&self.object(name)).await.map_err(|error| self.error(&error)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The bytes of an object.
    ///
    /// # Errors
    /// The bucket's; `NotFound` if there is no such object.
    pub async fn read_object(&self, name: &str) -> io::Result<ByteStream> {
        let found = self.0.objects.get_opts(&self.object(name), GetOptions::default()).await;
        Ok(self.watched(found.map_err(|error| self.error(&error))?.into_stream()))
    }

    /// Removes an object, if it is there.
    ///
    /// # Errors
    /// The bucket's.
    pub async fn remove_object(&self, name: &str) -> io::Result<()> {
        match self.0.objects.delete(&self.object(name)).await {
            Ok(()) => Ok(()),
            Err(error) => gone(self.error(&error)),
        }
    }

    /// Removes every object below the prefix.
    ///
    /// # Errors
    /// The bucket's.
    pub async fn remove_all_objects(&self) -> io::Result<()> {
        let within = self.object("");
        let mut pages = self.0.objects.list(Some(&within));
        loop {
            let next = timeout(PAUSE_MAX * 2, pages.try_next()).await;
            let next = next.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, self.late()))?;
            let Some(object) = next.map_err(|error| self.error(&error))? else { return Ok(()) };
            self.0.objects.delete(&object.location).await.map_err(|error| self.error(&error))?;
        }
    }
}

impl ObjectUpload {
    fn objects(&self) -> &AmazonS3 {
        &self.bucket.0.objects
    }

    fn part_bytes(&self) -> usize {
        if self.parts.len() < SMALL_PARTS { PART_BYTES } else { LARGE_PART_BYTES }
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// The bucket's.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.waiting.extend_from_slice(bytes);
        // The last part is never empty, so it waits for `finish`.
        while self.waiting.len() > self.part_bytes() {
            let part = self.waiting.split_to(self.part_bytes()).freeze();
            self.put_part(part).await?;
        }
        Ok(())
    }

    async fn put_part(&mut self, bytes: Bytes) -> io::Result<()> {
        if self.parts.len() == PARTS_MAX {
            return Err(io::Error::other("S3 takes no larger object; make the backup in a folder and copy that"));
        }
        let upload = match &self.upload {
            Some(upload) => upload.clone(),
            None => {
                let begun = self.objects().create_multipart(&self.key).await;
                let begun = begun.map_err(|error| self.bucket.error(&error))?;
                self.upload.insert(begun).clone()
            }
        };
        let part = self.objects().put_part(&self.key, &upload, self.parts.len(), bytes.into()).await;
        self.parts.push(part.map_err(|error| self.bucket.error(&error))?);
        Ok(())
    }

    /// Completes the object. If that fails, nothing is left of it.
    ///
    /// # Errors
    /// The bucket's.
    pub async fn finish(mut self) -> io::Result<()> {
        let last = self.waiting.split().freeze();
        if self.upload.is_none() {
            let put = self.objects().put(&self.key, last.into()).await;
            return put.map(drop).map_err(|error| self.bucket.error(&error));
        }
        let completed = match self.put_part(last).await {
            Ok(()) => {
                let (parts, upload) = (std::mem::take(&mut self.parts), self.upload.clone().unwrap_or_default());
                let completed = self.objects().complete_multipart(&self.key, &upload, parts).await;
                completed.map(drop).map_err(|error| self.bucket.error(&error))
            }
            Err(error) => Err(error),
        };
        if completed.is_err() {
            self.abort().await;
        }
        completed
    }

    /// Forgets the parts.
    pub async fn abort(self) {
        if let Some(upload) = &self.upload
            && let Err(error) = self.objects().abort_multipart(&self.key, upload).await
        {
            tracing::warn!("parts of {} stay in the bucket: {}", self.key, self.bucket.error(&error));
        }
    }
}
