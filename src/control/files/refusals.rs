//! The errors that clients receive when a file cannot be served or kept.

use crate::control::problem::Problem;
use crate::error::{ErrorCode, Refusal};
use crate::files::reason::FileReason;
use crate::files::store::bucket::BucketFault;
use std::borrow::Cow;
use std::io;

/// What a client should wait whose upload the disk refused.
const DISK_RETRY_MS: u64 = 60_000;
/// What a client should wait for the bucket.
const BUCKET_RETRY_MS: u64 = 10_000;

/// What a client learns about a disk that fails, or that is full, and about a bucket that does not answer.
pub(super) fn disk_refusal(error: &io::Error) -> Refusal {
    if let Some(fault) = BucketFault::of(error).filter(|_| error.kind() != io::ErrorKind::NotFound) {
        crate::faults::error_limited!(%fault, "the bucket of the files cannot be used");
        let message = "The server's store of files cannot be used now. Try again in a moment.";
        return with_reason(ErrorCode::StorageUnavailable, message, FileReason::StoreUnavailable)
            .retry_after(BUCKET_RETRY_MS);
    }
    crate::faults::error_limited!(%error, "data_dir/files cannot be used; see the disk's space and health");
    let (message, reason) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ("The server's disk is full. Nothing was lost: continue the upload later.", FileReason::DiskFull)
        }
        // A fault of this file, not of the disk.
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => {
            let message = "The server has lost bytes of this file. Upload it again.";
            return with_reason(ErrorCode::Internal, message, FileReason::BytesLost);
        }
        _ => ("The server's disk cannot be used now. Try again later.", FileReason::DiskUnavailable),
    };
    with_reason(ErrorCode::StorageUnavailable, message, reason).retry_after(DISK_RETRY_MS)
}

/// A refusal whose `details.reason` says more than its code.
pub(super) fn with_reason(code: ErrorCode, message: impl Into<Cow<'static, str>>, reason: FileReason) -> Refusal {
    Refusal::new(code, message).with_details(reason.details())
}

pub(super) fn no_such_file() -> Problem {
    Problem::not_found("There is no such file, or you may not see it.")
}
