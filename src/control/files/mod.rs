//! Files over HTTP.
//!
//! ```text
//!   uploads.rs    POST /files, PATCH, HEAD, DELETE /files/{id}     tus 1.0, with JSON answers for other clients
//!   simple.rs     POST /files/simple                               one multipart form, for scripts
//!   receiving.rs  bytes of a body → the disk
//!   antivirus.rs  clamd
//!   check.rs      what happens to a complete upload: hash, type, viruses, store (a job)
//!   downloads.rs  GET /files/{id}/{name}, POST /files/{id}/link
//! ```
//!
//! Invariants:
//! - a client was told an offset only after the bytes before it, and the row that says so, are on the disk for good;
//! - one request at a time writes to an upload. A newer one ends the older one, whose client may be gone;
//! - every read asks PostgreSQL whether the user may read the file now. So deleting the message, or leaving the
//!   conversation, ends access at once, also that of links;
//! - only a file that is `ready` is served.

pub mod antivirus;
mod check;
mod downloads;
mod receiving;
mod simple;
mod uploads;

use super::Control;
pub use super::ports::FilesPort;
use super::problem::Problem;
use crate::blobs::Folder;
use crate::error::{ErrorCode, Refusal};
use crate::files::link::LinkKey;
use crate::ids::{FileId, UserId};
use crate::limits::Feature;
use crate::storage::files::{FileQuotas, FileStore};
use antivirus::Antivirus;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode};
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::stream;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedMutexGuard, watch};

/// Requests that write to the disk at the same time, each with a thread; of one user, and of everybody.
const WRITING_PER_USER_MAX: usize = 8;
const WRITING_MAX: usize = 64;
/// How long a newer request waits until the older one has stopped.
const TURN_WAIT: Duration = Duration::from_secs(10);
/// Bytes that one read of the disk takes.
const READ_BYTES: usize = 256 * 1024;
/// What a refused client should wait.
const RETRY_MS: u64 = 1_000;

/// What [`Files`] needs.
pub struct FileParts {
    /// The rows.
    pub store: FileStore,
    /// The bytes.
    pub folder: Folder,
    /// The shards.
    pub port: Arc<dyn FilesPort>,
    /// How much may be uploaded.
    pub quotas: FileQuotas,
    /// Bytes in one file.
    pub size_max: u64,
    /// Types that are accepted.
    pub allowed_types: Vec<String>,
    /// The virus scanner; none if files are not scanned.
    pub antivirus: Option<Antivirus>,
    /// Signs links.
    pub links: LinkKey,
    /// `features.file_uploads`.
    pub is_on: bool,
}

/// The files of the control plane; cloning shares them.
#[derive(Clone)]
pub struct Files(Arc<FilesInner>);

struct FilesInner {
    parts: FileParts,
    writing: Mutex<Writing>,
    /// Counts the signs that there may be a job.
    work: watch::Sender<u64>,
}

#[derive(Default)]
struct Writing {
    by_user: HashMap<UserId, usize>,
    total: usize,
    turns: HashMap<FileId, Arc<Turns>>,
}

/// The requests for one upload.
#[derive(Default)]
struct Turns {
    turn: Arc<tokio::sync::Mutex<()>>,
    newer: Arc<Notify>,
}

/// The right to write to an upload, and a place among the requests that do.
struct Turn {
    files: Files,
    user: UserId,
    file: FileId,
    turns: Arc<Turns>,
    _right: OwnedMutexGuard<()>,
}

impl Files {
    /// Nobody uploads yet.
    #[must_use]
    pub fn new(parts: FileParts) -> Self {
        Self(Arc::new(FilesInner { parts, writing: Mutex::default(), work: watch::Sender::new(0) }))
    }

    fn parts(&self) -> &FileParts {
        &self.0.parts
    }

    fn store(&self) -> &FileStore {
        &self.0.parts.store
    }

    fn folder(&self) -> &Folder {
        &self.0.parts.folder
    }

    /// The virus scanner.
    pub(super) fn antivirus(&self) -> Option<&Antivirus> {
        self.0.parts.antivirus.as_ref()
    }

    /// Refuses uploads when the feature is off.
    fn may_upload(&self) -> Result<(), Problem> {
        if self.0.parts.is_on {
            return Ok(());
        }
        let detail = format!("This feature is switched off on this server ({}).", Feature::FileUploads.key());
        Err(Refusal::new(ErrorCode::Forbidden, detail).into())
    }

    /// Records what an upload has on the disk for good. A complete one is checked next.
    async fn keep(&self, file: FileId, received: u64, size: u64) -> Result<(), Refusal> {
        if received < size {
            return self.store().progress(file, received as i64).await;
        }
        self.store().finish(file, &self.parts().quotas).await?;
        self.work_arrived();
        Ok(())
    }

    /// There may be a job.
    fn work_arrived(&self) {
        self.0.work.send_modify(|signs| *signs += 1);
    }

    /// Notified when there may be a job.
    pub(super) fn work(&self) -> watch::Receiver<u64> {
        self.0.work.subscribe()
    }

    fn writing(&self) -> MutexGuard<'_, Writing> {
        self.0.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to write to an upload. A request that has it is told to stop.
    async fn turn(&self, user: UserId, file: FileId) -> Result<Turn, Problem> {
        let turns = {
            let mut writing = self.writing();
            let of_user = writing.by_user.get(&user).copied().unwrap_or(0);
            if writing.total >= WRITING_MAX {
                return Err(Refusal::overloaded("uploads").retry_after(RETRY_MS).into());
            }
            if of_user >= WRITING_PER_USER_MAX {
                let detail = "Too many of your uploads are running. Wait for one of them.";
                let refusal = Refusal::rate_limited(detail, "uploads_running", "user", WRITING_PER_USER_MAX as u64, 0);
                return Err(refusal.retry_after(RETRY_MS).into());
            }
            Arc::clone(writing.turns.entry(file).or_default())
        };
        turns.newer.notify_waiters();
        let Ok(turn) = tokio::time::timeout(TURN_WAIT, Arc::clone(&turns.turn).lock_owned()).await else {
            let detail = "Another request writes to this upload. Wait for it, then ask for the offset.";
            return Err(Problem::new(StatusCode::LOCKED, ErrorCode::Conflict.as_str(), detail));
        };
        let mut writing = self.writing();
        writing.total += 1;
        *writing.by_user.entry(user).or_default() += 1;
        drop(writing);
        Ok(Turn { files: self.clone(), user, file, turns, _right: turn })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut writing = self.files.writing();
        writing.total -= 1;
        if let Some(of_user) = writing.by_user.get_mut(&self.user) {
            *of_user -= 1;
            if *of_user == 0 {
                writing.by_user.remove(&self.user);
            }
        }
        // This one, the map's, and none that waits.
        if Arc::strong_count(&self.turns) <= 2 {
            writing.turns.remove(&self.file);
        }
    }
}

/// Whether a request may last as long as its body comes: it has deadlines of its own.
pub(super) fn takes_long(method: &Method, route: &str) -> bool {
    matches!((method, route), (&Method::PATCH, "/files/{id}") | (&Method::POST, "/files/simple"))
}

pub(super) fn router() -> Router<Control> {
    Router::new()
        .route("/files", post(uploads::create).options(uploads::describe))
        .route("/files/simple", post(simple::upload).layer(DefaultBodyLimit::disable()))
        .route("/files/{id}", get(downloads::show).head(uploads::offset).patch(uploads::append).delete(uploads::remove))
        .route("/files/{id}/link", post(downloads::link))
        .route("/files/{id}/{name}", get(downloads::read))
}

/// Runs blocking work on a thread for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(io::Error::other("the thread ended"))).map_err(|error| disk_refusal(&error))
}

/// What a client learns about a disk that fails.
fn disk_refusal(error: &io::Error) -> Refusal {
    crate::faults::error_limited!(%error, "data_dir/files cannot be used; uploads are refused until it can");
    let message = if is_full(error) {
        "The server's disk is full. Nothing was lost: continue the upload later."
    } else {
        "The server's disk cannot be used now. Try again later."
    };
    Refusal::new(ErrorCode::StorageUnavailable, message).retry_after(60_000)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The next bytes of an open file, read on threads that may wait.
fn bytes_of(file: File, length: u64) -> impl stream::Stream<Item = io::Result<Bytes>> {
    stream::try_unfold((file, length), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let read = tokio::task::spawn_blocking(move || {
            let mut chunk = vec![0; READ_BYTES.min(usize::try_from(left).unwrap_or(READ_BYTES))];
            file.read_exact(&mut chunk).map(|()| (Bytes::from(chunk), file))
        });
        let (chunk, file) = read.await.map_err(io::Error::other)??;
        let left = left - chunk.len() as u64;
        Ok(Some((chunk, (file, left))))
    })
}

fn no_such_file() -> Problem {
    Problem::not_found("There is no such file, or you may not see it.")
}
