//! The statements of files and jobs. The account pool runs them as `chat_writer`.

/// $1 the upload → its id; see `commit/create_file.sql`.
pub const CREATE: &str = "SELECT create_file($1)";
/// A number for a file whose bytes come before its row.
pub const RESERVE: &str = "SELECT nextval('file_ids')";
/// $1 uploader, $2 file → what continues an upload.
pub const UPLOAD: &str = "SELECT conversation_id, size, received, state::text, expires_at, name FROM files \
    WHERE uploader_id = $1 AND id = $2";
/// $1 file, $2 bytes that are on the disk for good.
pub const PROGRESS: &str = "UPDATE files SET received = $2 WHERE id = $1 AND state = 'uploading' AND received < $2";
/// $1 file, $2 seconds that it is kept without a message → whether it was unfinished.
pub const FINISH: &str = "SELECT finish_upload($1, $2)";
/// $1 uploader, $2 file → whether there was one.
pub const REMOVE: &str = "SELECT remove_file($1, $2)";
/// $1 user, $2 file → the file as the protocol shows it, and its content.
pub const READABLE: &str = "SELECT file_json(f), f.sha256, f.state::text, f.reason FROM readable_file($1, $2) f";
/// $1 file → what its check needs.
pub const TO_CHECK: &str = "SELECT conversation_id, uploader_id, name, declared_type, expected_sha256, sha256 FROM files \
    WHERE id = $1 AND state = 'scanning'";
/// $1 hash, $2 size: locks the row of the content until the transaction ends.
pub const LOCK_NEW_BLOB: &str = "INSERT INTO blobs AS b (sha256, size) VALUES ($1, $2) \
    ON CONFLICT (sha256) DO UPDATE SET created_at = b.created_at";
/// $1 file, $2 hash.
pub const NAME_CONTENT: &str = "UPDATE files SET sha256 = $2 WHERE id = $1 AND state = 'scanning'";
/// $1 hash: locks the row of the content, if there is one.
pub const LOCK_BLOB: &str = "SELECT FROM blobs WHERE sha256 = $1 FOR UPDATE";
/// $1 hash → whether a file has this content.
pub const IS_NEEDED: &str = "SELECT EXISTS (SELECT FROM files f WHERE f.sha256 = $1 AND has_content(f))";
/// $1 hash.
pub const FORGET_BLOB: &str = "DELETE FROM blobs WHERE sha256 = $1";
/// $1 most files → how many went.
pub const EXPIRE: &str = "SELECT expire_files($1)";
/// $1 kinds, $2 most jobs, $3 seconds of the lease → the jobs.
pub const CLAIM: &str = "SELECT id, kind, subject, attempts FROM claim_jobs($1, $2, $3)";
/// $1 job.
pub const JOB_DONE: &str = "DELETE FROM jobs WHERE id = $1";
/// $1 job, $2 seconds until the next attempt, $3 what went wrong.
pub const JOB_FAILED: &str = "UPDATE jobs SET leased_until = NULL, next_at = now() + make_interval(secs => $2), \
    last_error = left($3, 500) WHERE id = $1";
/// $1 files → those that have a row.
pub const KNOWN: &str = "SELECT id FROM files WHERE id = ANY ($1)";
