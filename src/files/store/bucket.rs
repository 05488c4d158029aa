//! Content in a bucket: the objects `{prefix}blobs/ab/cd/abcd….3`, under the names that the folder would use.
//!
//! Invariants:
//! - an object appears complete or not at all: S3 shows it when the last byte has arrived and the upload is completed;
//! - content above [`PART_BYTES`] goes up in parts, one in memory at a time. The folder remembers each upload in parts
//!   until it has ended, so that [`Bucket::end_old_parts`] ends it after a crash. Otherwise its parts would stay in the
//!   bucket, invisible, and be paid for;
//! - only an object that the bucket says it does not have is `NotFound`. A bucket that is missing is another error:
//!   otherwise a wrong setting would look like lost files, and checks would fail them;
//! - every request has a deadline and few repeats. Jobs repeat the rest.

pub mod objects;

use super::bucket_http::BucketTransport;
use super::disk::{ByteStream, Disk};
use super::folder::{Folder, PartsRecord};
use crate::faults::warn_limited;
use crate::files::content::ContentName;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::multipart::MultipartStore as _;
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, Error as S3Error, GetOptions, GetRange, MultipartId, ObjectStore as _, ObjectStoreExt as _,
    PutPayload, RetryConfig,
};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// Bytes of a part. Content that is not larger goes up in one request.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// Repeats of a request, and the time after which there are no more.
const RETRIES_MAX: usize = 3;
const RETRY_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a reader waits for the next bytes.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Bytes of what the bucket says about an error that are kept.
const REASON_BYTES_MAX: usize = 300;

/// `[files]`: the bucket and how to use it.
#[derive(Clone)]
pub struct BucketSettings {
    /// The name of the bucket.
    pub bucket: String,
    /// What the names of objects begin with: empty, or ending with `/`.
    pub prefix: String,
    /// The region, for the signatures.
    pub region: String,
    /// `scheme://host[:port]` of a store that is not AWS.
    pub endpoint: Option<String>,
    /// The access key.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
}

/// A bucket; cloning shares it.
#[derive(Clone, Debug)]
pub struct Bucket(Arc<BucketInner>);

struct BucketInner {
    objects: AmazonS3,
    name: String,
    prefix: String,
    /// Records of the uploads in parts that go on now. All others are of a process that is gone, or were cut short.
    going_on: Mutex<Vec<PathBuf>>,
}

impl fmt::Debug for BucketInner {
    /// Without the client, which has the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("name", &self.name).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Why the bucket did not do something, and what to do. Found in the errors of this module.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the bucket {bucket}: {reason}; {advice}")]
pub struct BucketFault {
    /// The name of the bucket.
    pub bucket: String,
    /// What happened.
    pub reason: String,
    /// What to do. It names the key of the configuration that is most likely wrong.
    pub advice: &'static str,
}

impl BucketFault {
    /// The fault that an error of the store has, if the bucket is its cause.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// An upload in parts that goes on now.
struct GoingOn<'a>(&'a BucketInner, PathBuf);

impl<'a> GoingOn<'a> {
    fn new(bucket: &'a BucketInner, record: PathBuf) -> Self {
        bucket.going_on.lock().unwrap_or_else(PoisonError::into_inner).push(record.clone());
        Self(bucket, record)
    }
}

impl Drop for GoingOn<'_> {
    fn drop(&mut self) {
        self.0.going_on.lock().unwrap_or_else(PoisonError::into_inner).retain(|path| *path != self.1);
    }
}

impl Bucket {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// The certificates of the machine cannot be read, or `object_store` refuses the settings.
    pub fn new(settings: BucketSettings) -> io::Result<Self> {
        let is_plain = settings.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let backoff = BackoffConfig { max_backoff: Duration::from_secs(2), ..BackoffConfig::default() };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.bucket)
            .with_region(&settings.region)
            .with_access_key_id(settings.access_key_id)
            .with_secret_access_key(settings.secret_access_key)
            .with_allow_http(is_plain)
            // TLS protects the bytes already.
            .with_unsigned_payload(!is_plain)
            // Not every store has bulk deletes.
            .with_disable_bulk_delete(true)
            .with_retry(RetryConfig { backoff, max_retries: RETRIES_MAX, retry_timeout: RETRY_TIME_MAX })
            .with_http_connector(BucketTransport::new(is_plain)?);
        if let Some(endpoint) = settings.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let objects = builder.build().map_err(io::Error::other)?;
        let (name, prefix) = (settings.bucket, settings.prefix);
        Ok(Self(Arc::new(BucketInner { objects, name, prefix, going_on: Mutex::default() })))
    }

    fn key(&self, name: &ContentName) -> Key {
        let name = name.to_string();
        Key::from(format!("{}blobs/{}/{}/{name}", self.0.prefix, &name[..2], &name[2..4]))
    }

    /// Writes an object, looks for it and removes it: everything that the server will do.
    ///
    /// # Errors
    /// The fault.
    pub async fn probe(&self) -> Result<(), BucketFault> {
        let key = Key::from(format!("{}probe-{:016x}", self.0.prefix, rand::random::<u64>()));
        let objects = &self.0.objects;
        let fault = |error: S3Error| self.fault(&error);
        objects.put(&key, PutPayload::from_static(b"The server can write here.")).await.map_err(fault)?;
        objects.head(&key).await.map_err(fault)?;
        let upload = objects.create_multipart(&key).await.map_err(fault)?;
        objects.abort_multipart(&key, &upload).await.map_err(fault)?;
        objects.delete(&key).await.map_err(fault)?;
        match objects.head(&key).await {
            Err(S3Error::NotFound { .. }) => {}
            // Without s3:ListBucket, AWS does not say that an object is missing.
            Err(error) => return Err(fault(error)),
            Ok(_) => {
                let reason = "an object is still there after it was removed".to_owned();
                let advice = "set files.s3_bucket to a bucket whose objects can be removed";
                return Err(BucketFault { bucket: self.0.name.clone(), reason, advice });
            }
        }
        // Whether objects can be listed.
        objects.list(Some(&key)).try_for_each(|_| async { Ok(()) }).await.map_err(fault)
    }

    /// The bytes in an object.
    ///
    /// # Errors
    /// The bucket's; `NotFound` if there is no such object.
    pub async fn size(&self, name: &ContentName) -> io::Result<u64> {
        self.0.objects.head(&self.key(name)).await.map(|found| found.size).map_err(|error| self.error(&error))
    }

    /// Stores a file under this name, unless it is there already.
    ///
    /// # Errors
    /// The bucket's and the disk's.
    pub async fn put(&self, disk: &Disk, folder: &Folder, file: File, name: &ContentName) -> io::Result<()> {
        let (file, length) = disk.run(move || file.metadata().map(|found| (file, found.len()))).await?;
        match self.size(name).await {
            Ok(size) if size == length => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if length > PART_BYTES as u64 {
            return self.put_in_parts(disk, folder, (file, length), name).await;
        }
        let (_, bytes) = next_part(disk, file, length).await?;
        self.0.objects.put(&self.key(name), bytes.into()).await.map(drop).map_err(|error| self.error(&error))
    }

    async fn put_in_parts(
        &self,
        disk: &Disk,
        folder: &Folder,
        from: (File, u64),
        name: &ContentName,
    ) -> io::Result<()> {
        if let Err(error) = self.end_old_parts(disk, folder).await {
            warn_limited!(%error, "parts of an upload that a crash has left in the bucket could not be removed");
        }
        let key = self.key(name);
        let upload = self.0.objects.create_multipart(&key).await.map_err(|error| self.error(&error))?;
        let record = folder.parts_record(name, upload);
        // Before it is written, so that nobody takes it for an old one.
        let going_on = GoingOn::new(&self.0, record.path.clone());
        let (at, written) = (folder.clone(), record.clone());
        if let Err(error) = disk.run(move || at.record_parts(&written)).await {
            let _ = self.end_parts(&record).await;
            return Err(error);
        }
        let stored = self.parts(disk, from, &key, &record.upload).await;
        if stored.is_err() && self.end_parts(&record).await.is_err() {
            return stored; // the next upload in parts tries again to end this one
        }
        let folder = folder.clone();
        disk.run(move || folder.forget_parts(&record)).await?;
        drop(going_on);
        stored
    }

    async fn parts(&self, disk: &Disk, from: (File, u64), key: &Key, upload: &MultipartId) -> io::Result<()> {
        let (mut file, mut left) = from;
        let mut parts = Vec::new();
        while left > 0 {
            let (read, bytes) = next_part(disk, file, left).await?;
            file = read;
            left -= bytes.len() as u64;
            let part = self.0.objects.put_part(key, upload, parts.len(), bytes.into()).await;
            parts.push(part.map_err(|error| self.error(&error))?);
        }
        let completed = self.0.objects.complete_multipart(key, upload, parts).await;
        completed.map(drop).map_err(|error| self.error(&error))
    }

    /// Ends the uploads in parts of processes that are gone, and those that were cut short.
    ///
    /// # Errors
    /// The bucket's and the disk's.
    pub async fn end_old_parts(&self, disk: &Disk, folder: &Folder) -> io::Result<()> {
        let at = folder.clone();
        let mut old = disk.run(move || at.recorded_parts()).await?;
        {
            let going_on = self.0.going_on.lock().unwrap_or_else(PoisonError::into_inner);
            old.retain(|record| !going_on.contains(&record.path));
        }
        for record in old {
            self.end_parts(&record).await?;
            let folder = folder.clone();
            disk.run(move || folder.forget_parts(&record)).await?;
        }
        Ok(())
    }

    async fn end_parts(&self, record: &PartsRecord) -> io::Result<()> {
        match self.0.objects.abort_multipart(&self.key(&record.name), &record.upload).await {
            Ok(()) => Ok(()),
            // It was completed, or was ended before.
            Err(error) => gone(self.error(&error)),
        }
    }

    /// A part of an object.
    ///
    /// # Errors
    /// The bucket's; `NotFound` if there is no such object.
    pub async fn read(&self, name: &ContentName, range: Range<u64>) -> io::Result<ByteStream> {
        if range.is_empty() {
            self.size(name).await?;
            return Ok(stream::empty().boxed());
        }
        let left = range.end - range.start;
        let wanted = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let found = self.0.objects.get_opts(&self.key(name), wanted).await.map_err(|error| self.error(&error))?;
        if found.range.end - found.range.start != left {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(self.watched(found.into_stream()))
    }

    /// The bytes, until the bucket makes a long pause.
    fn watched(&self, bytes: BoxStream<'static, Result<Bytes, S3Error>>) -> ByteStream {
        stream::try_unfold((self.clone(), bytes), |(bucket, mut bytes)| async move {
            let next = timeout(PAUSE_MAX, bytes.next()).await;
            let next = next.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, bucket.late()))?;
            match next {
                Some(Ok(next)) => Ok(Some((next, (bucket, bytes)))),
                Some(Err(error)) => Err(bucket.error(&error)),
                None => Ok(None),
            }
        })
        .boxed()
    }

    /// Removes an object, if it is there.
    ///
    /// # Errors
    /// The bucket's.
    pub async fn remove(&self, name: &ContentName) -> io::Result<()> {
        match self.0.objects.delete(&self.key(name)).await {
            Ok(()) => Ok(()),
            Err(error) => gone(self.error(&error)),
        }
    }

    /// The names of all content whose hash begins with `prefix`. Objects that have no such name are not ours, and are
    /// left out. The bucket gives them page by page, and only the names are kept.
    ///
    /// # Errors
    /// The bucket's.
    pub async fn contents(&self, prefix: u8) -> io::Result<Vec<ContentName>> {
        let within = Key::from(format!("{}blobs/{prefix:02x}", self.0.prefix));
        let mut pages = self.0.objects.list(Some(&within));
        let mut names = Vec::new();
        while let Some(next) = timeout(PAUSE_MAX * 2, pages.next())
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, self.late()))?
        {
            let object = next.map_err(|error| self.error(&error))?;
            let name = object.location.filename().and_then(ContentName::parse);
            names.extend(name.filter(|name| self.key(name) == object.location));
        }
        Ok(names)
    }

    fn late(&self) -> BucketFault {
        let reason = format!("no bytes for {} s", PAUSE_MAX.as_secs());
        let advice = "see whether the store of files.s3_endpoint works";
        BucketFault { bucket: self.0.name.clone(), reason, advice }
    }

    fn fault(&self, error: &S3Error) -> BucketFault {
        let text = innermost(error);
        BucketFault { bucket: self.0.name.clone(), reason: shown(&text), advice: advice(error, &text) }
    }

    fn error(&self, error: &S3Error) -> io::Error {
        let fault = self.fault(error);
        let kind = match error {
            S3Error::NotFound { .. } if !is_bucket_missing(&innermost(error)) => io::ErrorKind::NotFound,
            S3Error::PermissionDenied { .. } | S3Error::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, fault)
    }
}

/// What is not there need not be removed.
fn gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// The next bytes of a file of which so many are left.
async fn next_part(disk: &Disk, mut file: File, left: u64) -> io::Result<(File, Bytes)> {
    disk.run(move || {
        let mut part = vec![0; PART_BYTES.min(usize::try_from(left).unwrap_or(PART_BYTES))];
        file.read_exact(&mut part)?;
        Ok((file, Bytes::from(part)))
    })
    .await
}

/// The innermost reason. The outer ones say only which request it was.
fn innermost(error: &S3Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn is_bucket_missing(text: &str) -> bool {
    text.contains("NoSuchBucket")
}

fn advice(error: &S3Error, text: &str) -> &'static str {
    let has = |codes: &[&str]| codes.iter().any(|code| text.contains(code));
    if is_bucket_missing(text) {
        "create the bucket, or correct files.s3_bucket"
    } else if has(&["InvalidAccessKeyId", "InvalidToken"]) {
        "correct files.s3_access_key_id"
    } else if has(&["SignatureDoesNotMatch"]) {
        "correct files.s3_secret_access_key"
    } else if has(&["RequestTimeTooSkewed"]) {
        "set the clock of this machine"
    } else if has(&["AuthorizationHeaderMalformed", "PermanentRedirect", "Moved Permanently", "LOCATION"]) {
        "set files.s3_region and files.s3_endpoint to where the bucket is"
    } else if matches!(error, S3Error::PermissionDenied { .. } | S3Error::Unauthenticated { .. }) {
        "give the key of files.s3_access_key_id the rights that docs/files.md lists"
    } else if matches!(error, S3Error::NotFound { .. }) {
        "see whether files.s3_bucket and files.s3_prefix are right"
    } else {
        "see whether the store of files.s3_endpoint can be reached and works"
    }
}

/// The code and the message of an answer of S3, or the beginning of another text.
fn shown(text: &str) -> String {
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(inner, _)| inner)
    };
    let whole = match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => format!("{code}, {message}"),
        _ => text.trim().to_owned(),
    };
    let end = whole.floor_char_boundary(REASON_BYTES_MAX);
    whole[..end].trim_end_matches(['.', ':', ' ']).replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: &str, body: &str) -> S3Error {
        let (path, source) = ("blobs".to_owned(), format!("Server returned non-2xx status code: {body}").into());
        match kind {
            "missing" => S3Error::NotFound { path, source },
            "denied" => S3Error::PermissionDenied { path, source },
            _ => S3Error::Generic { store: "S3", source },
        }
    }

    fn bucket() -> Bucket {
        Bucket::new(BucketSettings {
            bucket: "files".to_owned(),
            prefix: "chat/".to_owned(),
            region: "us-east-1".to_owned(),
            endpoint: Some("http://127.0.0.1:9".to_owned()),
            access_key_id: "key".to_owned(),
            secret_access_key: "hidden".to_owned(),
        })
        .unwrap()
    }

    #[test]
    fn an_error_names_the_key_that_is_wrong_and_shows_no_secret() {
        let bucket = bucket();
        let answer = |code: &str| format!("403: <Error><Code>{code}</Code><Message>No.</Message><Key>k</Key></Error>");
        for (kind, code, key) in [
            ("missing", "NoSuchBucket", "files.s3_bucket"),
            ("denied", "InvalidAccessKeyId", "files.s3_access_key_id"),
            ("denied", "SignatureDoesNotMatch", "files.s3_secret_access_key"),
            ("denied", "AccessDenied", "files.s3_access_key_id"),
            ("other", "AuthorizationHeaderMalformed", "files.s3_region"),
            ("other", "InternalError", "files.s3_endpoint"),
        ] {
            let fault = bucket.fault(&refused(kind, &answer(code)));
            assert_eq!(fault.reason, format!("{code}, No"));
            assert!(fault.advice.contains(key), "{code}: {}", fault.advice);
        }
        assert!(!format!("{bucket:?}").contains("hidden"));
    }

    #[test]
    fn a_missing_bucket_is_not_taken_for_missing_content() {
        let bucket = bucket();
        let kind = |code: &str| {
            bucket.error(&refused("missing", &format!("404 Not Found: <Error><Code>{code}</Code></Error>"))).kind()
        };
        assert_eq!(kind("NoSuchKey"), io::ErrorKind::NotFound);
        assert_ne!(kind("NoSuchBucket"), io::ErrorKind::NotFound);
    }

    #[test]
    fn objects_have_the_names_of_the_folder() {
        let name = ContentName::parse(&format!("{}.7", "0f".repeat(32))).unwrap();
        assert_eq!(bucket().key(&name).as_ref(), format!("chat/blobs/0f/0f/{name}"));
    }
}
