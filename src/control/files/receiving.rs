//! Bytes of a request → the end of an upload on the disk.
//!
//! The request reads the body and a task of its own writes, with a short queue between them; the disk's work is done by
//! the files' threads. So memory is bounded, and no thread waits for a slow client. When the request ends, however it
//! ends, the task keeps what came and says so in PostgreSQL.

use super::pace::Pace;
use super::refusals::{disk_refusal, with_reason};
use super::state::Files;
use super::turns::{WriteTurn, taken_over};
use crate::control::clients::NetworkPlace;
use crate::control::http::StopSignal;
use crate::control::problem::Problem;
use crate::error::{ErrorCode, Refusal};
use crate::files::reason::FileReason;
use crate::files::store::disk::Disk;
use crate::files::store::folder::Upload;
use crate::files::tus::Checksum;
use crate::ids::{FileId, UserId};
use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sha1::{Digest, Sha1};
use sha2::Sha256;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Bytes that one write takes at least, unless the body ends.
const WRITE_BYTES: usize = 256 * 1024;
/// After so many bytes they are kept, so that a crash loses little.
const KEEP_BYTES: u64 = 8 * 1024 * 1024;
/// Parts of a body between the request and the task.
const QUEUE_PARTS: usize = 8;
/// A body may pause for so long…
const GRACE: Duration = Duration::from_secs(30);
/// … and after that must bring so many bytes a second on average.
const BYTES_PER_SECOND_MIN: u64 = 1_024;

/// Where the bytes of a request go.
pub(super) struct Reception {
    /// The upload.
    pub(super) file: FileId,
    /// Its uploader.
    pub(super) user: UserId,
    /// What it has.
    pub(super) received: u64,
    /// The most that it may have.
    pub(super) size: u64,
    /// The digest of this request's bytes.
    pub(super) checksum: Option<Checksum>,
    /// Whether the upload is complete when the body is, and goes if the body is cut. Otherwise it is complete with
    /// `size` bytes, and a later request can go on.
    pub(super) is_whole: bool,
    /// Among the unfinished requests of its network.
    pub(super) network: Option<NetworkPlace>,
    /// Notified when the server stops.
    pub(super) stop: Option<StopSignal>,
}

/// What the request passes to the task.
enum BodyPart {
    Bytes(Bytes),
    /// The body is complete.
    End,
}

/// How the writing of a request ended.
enum Written {
    /// The upload has so many bytes.
    Kept(u64),
    /// The digest is wrong; the bytes of this request are gone.
    WrongChecksum,
    /// The body had more bytes than the upload may have.
    TooLong,
    Refused(Refusal),
}

/// Appends a body. Returns how many bytes the upload has then.
///
/// # Errors
/// 460 for a wrong checksum, `too_large`, `deadline_exceeded` for a slow body, `conflict` if a newer request takes
/// over, `storage_unavailable`. What came before is kept, unless the request has a checksum.
pub(super) async fn receive<E>(
    files: &Files,
    turn: WriteTurn,
    mut reception: Reception,
    body: impl Stream<Item = Result<Bytes, E>>,
) -> Result<u64, Problem> {
    let _network = reception.network.take();
    let (newer, stop) = (turn.newer(), reception.stop.take());
    let (parts, from_request) = mpsc::channel(QUEUE_PARTS);
    let writing = tokio::spawn(write(files.clone(), turn, reception, from_request));
    let stopping = async {
        match stop {
            Some(mut stop) => stop.begun().await,
            None => std::future::pending().await,
        }
    };
    let read = tokio::select! {
        read = forward(body, &parts, files.pace()) => read,
        () = newer => Err(taken_over()),
        () = stopping => {
            let detail = "The server stops. What came is kept: ask for the offset when it is back.";
            Err(Refusal::new(ErrorCode::Overloaded, detail).retry_after(1_000).into())
        }
    };
    drop(parts);
    let written = writing.await.unwrap_or_else(|_| Written::Refused(Refusal::storage_unavailable()));
    match (written, read) {
        (Written::Refused(refusal), _) => Err(refusal.into()),
        (Written::TooLong, _) => Err(too_long()),
        (_, Err(problem)) => Err(problem),
        (Written::WrongChecksum, Ok(())) => {
            // The protocol's own status.
            let status = StatusCode::from_u16(460).unwrap_or(StatusCode::BAD_REQUEST);
            let detail = "Upload-Checksum: The body has another digest. Its bytes were not kept. Send them again.";
            Err(Problem::new(status, "checksum_mismatch", detail))
        }
        (Written::Kept(received), Ok(())) => Ok(received),
    }
}

pub(super) fn too_long() -> Problem {
    let message = "The body has more bytes than the upload may have.";
    with_reason(ErrorCode::TooLarge, message, FileReason::TooManyBytes).into()
}

/// Passes a body on. Ends early when the task has stopped; it says why.
async fn forward<E>(
    body: impl Stream<Item = Result<Bytes, E>>,
    parts: &mpsc::Sender<BodyPart>,
    pace: &Pace,
) -> Result<(), Problem> {
    let mut body = pin!(body);
    let (mut started, mut total) = (Instant::now(), 0);
    loop {
        let deadline = started + GRACE + Duration::from_secs(total / BYTES_PER_SECOND_MIN);
        let pause = Instant::now() + GRACE;
        let bytes = match timeout_at(deadline.min(pause), body.next()).await {
            Ok(None) => {
                let _ = parts.send(BodyPart::End).await;
                return Ok(());
            }
            Ok(Some(Ok(bytes))) => bytes,
            Ok(Some(Err(_))) => {
                return Err(Problem::bad_request("The body ended before it was complete. Ask for the offset."));
            }
            Err(_) => {
                let detail = "The body arrives too slowly. What came is kept. Ask for the offset and continue.";
                return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, ErrorCode::DeadlineExceeded.as_str(), detail));
            }
        };
        total += bytes.len() as u64;
        let paced = Instant::now();
        pace.admit(bytes.len()).await;
        started += paced.elapsed(); // that was not the client
        if parts.send(BodyPart::Bytes(bytes)).await.is_err() {
            return Ok(());
        }
    }
}

enum Digester {
    None,
    Sha1(Sha1, [u8; 20]),
    Sha256(Sha256, [u8; 32]),
}

impl Digester {
    fn new(checksum: Option<&Checksum>) -> Self {
        match checksum {
            None => Self::None,
            Some(Checksum::Sha1(expected)) => Self::Sha1(Sha1::new(), *expected),
            Some(Checksum::Sha256(expected)) => Self::Sha256(Sha256::new(), *expected),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::None => {}
            Self::Sha1(hasher, _) => hasher.update(bytes),
            Self::Sha256(hasher, _) => hasher.update(bytes),
        }
    }

    fn agrees(self) -> bool {
        match self {
            Self::None => true,
            Self::Sha1(hasher, expected) => <[u8; 20]>::from(hasher.finalize()) == expected,
            Self::Sha256(hasher, expected) => <[u8; 32]>::from(hasher.finalize()) == expected,
        }
    }
}

/// An upload that a request writes to, between two pieces of the disk's work.
struct OpenUpload {
    disk: Disk,
    /// None while the disk works, and after its thread was lost.
    open: Option<(Upload, Digester)>,
}

impl OpenUpload {
    async fn work<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Upload, &mut Digester) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (mut upload, mut digester) = self.open.take().ok_or_else(|| io::Error::other("the upload was lost"))?;
        let worked = self.disk.run(move || {
            let done = work(&mut upload, &mut digester);
            Ok((upload, digester, done))
        });
        let (upload, digester, done) = worked.await?;
        self.open = Some((upload, digester));
        done
    }

    async fn append(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.work(move |upload, digester| {
            digester.update(&bytes);
            upload.append(&bytes)
        })
        .await
    }

    async fn keep(&mut self) -> io::Result<()> {
        self.work(|upload, _| upload.keep()).await
    }

    async fn cut(&mut self, length: u64) -> io::Result<()> {
        self.work(move |upload, _| upload.cut(length)).await
    }
}

/// How a body ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BodyEnd {
    Complete,
    Cut,
    TooLong,
}

/// The task: writes what comes until the request ends, and records it. It holds the turn until then.
async fn write(files: Files, turn: WriteTurn, reception: Reception, parts: mpsc::Receiver<BodyPart>) -> Written {
    let Reception { file, user, received: start, size, checksum, is_whole, .. } = reception;
    let (folder, disk) = (files.store().folder(), files.store().disk().clone());
    let has_checksum = checksum.is_some();
    let digester = Digester::new(checksum.as_ref());
    let opened = disk.run(move || folder.resume(file, start)).await;
    let written = match opened {
        Err(error) => Written::Refused(disk_refusal(&error)),
        Ok(upload) => {
            let upload = OpenUpload { disk, open: Some((upload, digester)) };
            Box::pin(append(&files, upload, (file, start, size), (has_checksum, is_whole), parts)).await
        }
    };
    let recorded = match &written {
        Written::Kept(received) if is_whole || *received == size => files.finish(file, *received).await,
        Written::Kept(received) => files.rows().progress(file, *received).await,
        _ if is_whole => files.remove_unfinished(user, file).await,
        _ => Ok(()),
    };
    if recorded.as_ref().is_err_and(|refusal| refusal.code == ErrorCode::NotFound) {
        // It ended meanwhile, and its bytes may have been removed before the last ones came.
        let _ = files.store().remove_upload(file).await; // or the sweep does
    }
    drop(turn);
    recorded.map_or_else(Written::Refused, |()| written)
}

/// Writes what comes. What it returns as kept is durable.
async fn append(
    files: &Files,
    mut upload: OpenUpload,
    (file, start, size): (FileId, u64, u64),
    (has_checksum, is_whole): (bool, bool),
    mut parts: mpsc::Receiver<BodyPart>,
) -> Written {
    // With a checksum nothing counts before it is known to be right; of a form, nothing before its end.
    let counts_early = !has_checksum && !is_whole;
    let (mut written, mut kept, mut waiting) = (start, start, Vec::new());
    let outcome: io::Result<Written> = async {
        let end = loop {
            match parts.recv().await {
                Some(BodyPart::Bytes(bytes)) if written + (waiting.len() + bytes.len()) as u64 > size => {
                    break BodyEnd::TooLong;
                }
                Some(BodyPart::Bytes(bytes)) => waiting.extend_from_slice(&bytes),
                Some(BodyPart::End) => break BodyEnd::Complete,
                None => break BodyEnd::Cut,
            }
            if waiting.len() >= WRITE_BYTES {
                written += waiting.len() as u64;
                upload.append(std::mem::take(&mut waiting)).await?;
            }
            if counts_early && written - kept >= KEEP_BYTES {
                upload.keep().await?;
                kept = written;
                // If this fails, the client sends these bytes again.
                let _ = files.rows().progress(file, kept).await;
            }
        };
        written += waiting.len() as u64;
        upload.append(std::mem::take(&mut waiting)).await?;
        let is_cut = end == BodyEnd::Cut && !counts_early;
        let agrees = !has_checksum
            || upload.work(|_, digester| Ok(std::mem::replace(digester, Digester::None).agrees())).await?;
        if end == BodyEnd::TooLong || is_cut || !agrees {
            upload.cut(kept).await?;
            return Ok(if end == BodyEnd::TooLong { Written::TooLong } else { Written::WrongChecksum });
        }
        upload.keep().await?;
        Ok(Written::Kept(written))
    }
    .await;
    outcome.unwrap_or_else(|error| {
        // The bytes after the kept ones are cut off when the upload is resumed.
        Written::Refused(disk_refusal(&error))
    })
}
