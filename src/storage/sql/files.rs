//! The statements of files. The account pool runs them as `chat_writer`.

/// $1 the upload → its id; see `commit/create_file.sql`.
pub const CREATE: &str = "SELECT create_file($1)";
/// $1 uploader, $2 file → what continues an upload.
pub const UPLOAD: &str = "SELECT f.size, f.received, f.state::text, nullif(f.expires_at, 'infinity') AS expires_at \
    FROM files f \
    WHERE f.uploader_id = $1 AND f.id = $2 AND EXISTS (SELECT FROM conversation_members m \
        WHERE m.conversation_id = f.conversation_id AND m.user_id = $1)";
/// $1 file, $2 its durable bytes.
pub const PROGRESS: &str = "UPDATE files SET received = $2 WHERE id = $1 AND state = 'uploading' RETURNING id";
/// $1 file, $2 its bytes, $3 seconds that it is kept without a message → whether it was unfinished.
pub const FINISH: &str = "SELECT finish_upload($1, $2, $3)";
/// $1 uploader, $2 file → whether there was one.
pub const REMOVE: &str = "SELECT remove_file($1, $2)";
/// $1 user, $2 file → the file as the protocol shows it, and its content.
pub const READABLE: &str = "SELECT file_json(f), f.state::text, f.reason, f.failure, b.sha256, b.number, b.size \
    FROM readable_file($1, $2) f LEFT JOIN blobs b ON b.sha256 = f.sha256";
/// $1 user, $2 file, $3 kind → a variant of a file, and its content.
pub const VARIANT: &str = "SELECT v.media_type, b.sha256, b.number, b.size FROM readable_file($1, $2) f \
    JOIN file_variants v ON v.file_id = f.id AND v.kind = $3 \
        AND (v.kind <> 'original' OR f.uploader_id = $1) \
    JOIN blobs b ON b.sha256 = v.sha256 WHERE f.state = 'ready'";
/// $1 user, $2 file → whether the user may read it.
pub const MAY_READ: &str = "SELECT EXISTS (SELECT FROM readable_file($1, $2))";
/// $1 file → what its check needs.
pub const TO_CHECK: &str = "SELECT f.conversation_id, f.uploader_id, f.name, f.size, f.declared_type, \
    f.expected_sha256, b.sha256, b.number FROM files f LEFT JOIN blobs b ON b.sha256 = f.sha256 \
    WHERE f.id = $1 AND f.state = 'scanning'";
/// $1 the content; see `commit/name_content.sql` → its number.
pub const NAME_CONTENT: &str = "SELECT name_content($1)";
/// $1 hash, $2 number → whether content has this name.
pub const IS_NAMED: &str = "SELECT EXISTS (SELECT FROM blobs WHERE sha256 = $1 AND number = $2)";
/// $1 hash.
pub const RELEASE_CONTENT: &str = "SELECT release_content($1)";
/// $1 most files → how many went.
pub const EXPIRE: &str = "SELECT expire_files($1)";
/// $1 file → its conversation.
pub const CONVERSATION: &str = "SELECT conversation_id FROM files WHERE id = $1";
/// $1 files → those whose uploads are needed.
pub const KNOWN: &str = "SELECT id FROM files WHERE id = ANY ($1) AND state IN ('uploading', 'scanning')";
/// $1 user, $2 file, $3 the token's hash, $4 seconds, $5 the beginning of its audit row → the link's number.
pub const SHARE: &str = "SELECT share_file($1, $2, $3, $4, $5)";
/// $1 user, $2 file, $3 link, $4 the beginning of its audit row → whether there was one.
pub const REVOKE_SHARE: &str = "SELECT revoke_share($1, $2, $3, $4)";
/// $1 user, $2 file → the public links of a file that the user may read.
pub const SHARES: &str = "SELECT s.id, s.user_id, s.created_at, s.expires_at FROM readable_file($1, $2) f \
    JOIN file_shares s ON s.file_id = f.id WHERE s.expires_at > now() ORDER BY s.id";
/// $1 the token's hash → the file, and its content.
pub const SHARED: &str = "SELECT file_json(f), f.state::text, f.reason, f.failure, b.sha256, b.number, b.size \
    FROM shared_file($1) f LEFT JOIN blobs b ON b.sha256 = f.sha256";
