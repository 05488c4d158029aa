//! Bytes of a request → the end of an upload on the disk.
//!
//! The request reads the body and a thread of its own writes, with a short queue between them. So memory is bounded and
//! the control thread never waits for the disk. When the request ends, however it ends, the thread keeps what came.

use super::{Turn, disk_refusal};
use crate::control::http::StopSignal;
use crate::control::problem::Problem;
use crate::error::{ErrorCode, Refusal};
use crate::files::tus::Checksum;
use crate::ids::FileId;
use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sha1::{Digest, Sha1};
use sha2::Sha256;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Bytes that one write takes at least, unless the body ends.
const WRITE_BYTES: usize = 256 * 1024;
/// After so many bytes they are kept, so that a crash loses little.
const KEEP_BYTES: u64 = 8 * 1024 * 1024;
/// Pieces of a body between the request and the thread.
const QUEUE_PIECES: usize = 32;
/// A body may pause for so long…
const GRACE: Duration = Duration::from_secs(30);
/// … and after that must bring so many bytes a second on average.
const BYTES_PER_SECOND_MIN: u64 = 1_024;

/// Where bytes go.
pub(super) struct Target {
    /// The upload.
    pub(super) file: FileId,
    /// What it has.
    pub(super) received: u64,
    /// The most that it may have.
    pub(super) size: u64,
    /// The digest of this request's bytes.
    pub(super) checksum: Option<Checksum>,
    /// Whether PostgreSQL has a row that is told of the progress.
    pub(super) has_row: bool,
}

enum Piece {
    Bytes(Bytes),
    /// The body is complete.
    End,
}

/// How a request ended.
enum Outcome {
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
/// 460 for a wrong checksum, `too_large`, `deadline_exceeded` for a slow body, `conflict` if a newer request takes over,
/// `storage_unavailable`. What came before is kept, unless the request has a checksum.
pub(super) async fn receive<E>(
    turn: Turn,
    target: Target,
    body: impl Stream<Item = Result<Bytes, E>>,
    stop: Option<StopSignal>,
) -> Result<u64, Problem> {
    let newer = Arc::clone(&turn.turns.newer);
    let newer = newer.notified();
    let (pieces, from_request) = mpsc::channel(QUEUE_PIECES);
    let handle = Handle::current();
    let writer = tokio::task::spawn_blocking(move || write(&turn, target, from_request, &handle));
    let reading = async {
        let ended = forward(body, &pieces).await;
        if ended.is_ok() {
            let _ = pieces.send(Piece::End).await;
        }
        ended
    };
    let stopping = async {
        match stop {
            Some(mut stop) => stop.begun().await,
            None => std::future::pending().await,
        }
    };
    let read = tokio::select! {
        read = reading => read,
        () = newer => {
            Err(Refusal::new(ErrorCode::Conflict, "A newer request continues this upload. Ask for the offset.").into())
        }
        () = stopping => Err(Refusal::overloaded("uploads, because the server stops").retry_after(1_000).into()),
    };
    drop(pieces);
    let outcome = writer.await.unwrap_or_else(|_| Outcome::Refused(Refusal::storage_unavailable()));
    match (outcome, read) {
        (Outcome::Refused(refusal), _) => Err(refusal.into()),
        (Outcome::TooLong, _) => {
            Err(Refusal::new(ErrorCode::TooLarge, "The body has more bytes than the upload lacks.").into())
        }
        (_, Err(problem)) => Err(problem),
        (Outcome::WrongChecksum, Ok(())) => {
            // The protocol's own status.
            let status = StatusCode::from_u16(460).unwrap_or(StatusCode::BAD_REQUEST);
            let detail = "Upload-Checksum: The body has another digest. Its bytes were not kept. Send them again.";
            Err(Problem::new(status, "checksum_mismatch", detail))
        }
        (Outcome::Kept(received), Ok(())) => Ok(received),
    }
}

/// Passes a body on. Ends early when the thread has stopped; it says why.
async fn forward<E>(body: impl Stream<Item = Result<Bytes, E>>, pieces: &mpsc::Sender<Piece>) -> Result<(), Problem> {
    let mut body = pin!(body);
    let (started, mut total) = (Instant::now(), 0);
    loop {
        let deadline = started + GRACE + Duration::from_secs(total / BYTES_PER_SECOND_MIN);
        let pause = Instant::now() + GRACE;
        let bytes = match timeout_at(deadline.min(pause), body.next()).await {
            Ok(None) => return Ok(()),
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
        if pieces.send(Piece::Bytes(bytes)).await.is_err() {
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

/// The thread: writes what comes until the request ends.
fn write(turn: &Turn, target: Target, mut pieces: mpsc::Receiver<Piece>, runtime: &Handle) -> Outcome {
    let Target { file, received: start, size, checksum, has_row } = target;
    let mut upload = match turn.files.folder().resume(file, start) {
        Ok(upload) => upload,
        Err(error) => return Outcome::Refused(disk_refusal(&error)),
    };
    let has_checksum = checksum.is_some();
    let mut digester = match checksum {
        None => Digester::None,
        Some(Checksum::Sha1(expected)) => Digester::Sha1(Sha1::new(), expected),
        Some(Checksum::Sha256(expected)) => Digester::Sha256(Sha256::new(), expected),
    };
    let (mut written, mut kept, mut waiting) = (start, start, Vec::with_capacity(WRITE_BYTES));
    let mut is_complete = false;
    let mut too_long = false;
    let outcome = loop {
        match pieces.blocking_recv() {
            Some(Piece::Bytes(bytes)) => {
                if written + waiting.len() as u64 + bytes.len() as u64 > size {
                    too_long = true;
                    break Ok(());
                }
                digester.update(&bytes);
                waiting.extend_from_slice(&bytes);
            }
            Some(Piece::End) => {
                is_complete = true;
                break Ok(());
            }
            None => break Ok(()),
        }
        if waiting.len() >= WRITE_BYTES {
            if let Err(error) = upload.append(&waiting) {
                break Err(error);
            }
            written += waiting.len() as u64;
            waiting.clear();
        }
        // With a checksum nothing counts before it is known to be right.
        if written - kept >= KEEP_BYTES && !has_checksum {
            if let Err(error) = upload.keep() {
                break Err(error);
            }
            kept = written;
            if has_row {
                // If this fails, the client sends these bytes again.
                let _ = runtime.block_on(turn.files.store().progress(file, kept as i64));
            }
        }
    };
    let outcome = outcome.and_then(|()| {
        upload.append(&waiting)?;
        written += waiting.len() as u64;
        let is_wrong = has_checksum && !(is_complete && digester.agrees());
        if is_wrong || too_long {
            upload.cut(start.max(kept))?;
            return Ok(if too_long { Outcome::TooLong } else { Outcome::WrongChecksum });
        }
        upload.keep()?;
        Ok(Outcome::Kept(written))
    });
    match outcome {
        // Here and not in the request, whose client may be gone by now.
        Ok(Outcome::Kept(received)) if has_row => match runtime.block_on(turn.files.keep(file, received, size)) {
            Ok(()) => Outcome::Kept(received),
            Err(refusal) => Outcome::Refused(refusal),
        },
        Ok(outcome) => outcome,
        Err(error) => {
            let _ = upload.cut(kept);
            Outcome::Refused(disk_refusal(&error))
        }
    }
}
