//! The statements of `chat-server files check`, as `chat_writer`.

/// $1 the first hash, $2 the hash after the last one or null → the content, and whether a file or a user
/// needs it.
pub const CONTENTS: &str = "SELECT b.sha256, b.number, b.size, \
        EXISTS (SELECT FROM files f WHERE f.sha256 = b.sha256 AND f.state = 'ready') \
        OR EXISTS (SELECT FROM file_variants v JOIN files f ON f.id = v.file_id \
                    WHERE v.sha256 = b.sha256 AND f.state = 'ready') \
        OR EXISTS (SELECT FROM user_avatars a WHERE a.sha256 = b.sha256) \
    FROM blobs b WHERE b.sha256 >= $1 AND ($2::bytea IS NULL OR b.sha256 < $2)";
/// $1 the pattern of the first digits → the subjects.
pub const REMOVALS: &str = "SELECT subject FROM jobs WHERE kind = 'remove_blob' AND subject LIKE $1";
/// $1 hash, $2 number → whether a file that is ready, or a user, needs it.
pub const IS_NEEDED: &str = "SELECT EXISTS (SELECT FROM blobs b WHERE b.sha256 = $1 AND b.number = $2) AND ( \
        EXISTS (SELECT FROM files f WHERE f.sha256 = $1 AND f.state = 'ready') \
        OR EXISTS (SELECT FROM file_variants v JOIN files f ON f.id = v.file_id \
                    WHERE v.sha256 = $1 AND f.state = 'ready') \
        OR EXISTS (SELECT FROM user_avatars a WHERE a.sha256 = $1))";
/// $1 hash, $2 number, $3 both as text → whether a row or a job has it.
pub const IS_KNOWN: &str = "SELECT EXISTS (SELECT FROM blobs b WHERE b.sha256 = $1 AND b.number = $2) \
    OR EXISTS (SELECT FROM jobs j WHERE j.kind = 'remove_blob' AND j.subject = $3)";
/// $1 hash, $2 most files.
pub const FILES_WITH: &str = "SELECT f.id FROM files f WHERE f.state = 'ready' AND (f.sha256 = $1 OR EXISTS ( \
        SELECT FROM file_variants v WHERE v.file_id = f.id AND v.sha256 = $1)) ORDER BY f.id LIMIT $2";
/// $1 hash, $2 most users → those whose picture it is.
pub const USERS_WITH: &str = "SELECT a.user_id FROM user_avatars a WHERE a.sha256 = $1 ORDER BY a.user_id LIMIT $2";
/// $1 most files.
pub const WITHOUT_CONTENT: &str = "SELECT f.id FROM files f WHERE f.state = 'ready' \
    AND NOT EXISTS (SELECT FROM blobs b WHERE b.sha256 = f.sha256) ORDER BY f.id LIMIT $1";
/// $1 whether to correct it, $2 most users → user, bytes and files as counted and as they are.
pub const COUNTED_FILES: &str = "SELECT * FROM counted_files($1, $2)";
/// $1 files, $2 the same as texts → those whose uploads are needed, or are about to be removed.
pub const KNOWN_UPLOADS: &str = "SELECT id FROM files WHERE id = ANY ($1) AND state IN ('uploading', 'scanning') \
    UNION SELECT subject::bigint FROM jobs WHERE kind = 'remove_upload' AND subject = ANY ($2)";
/// $1 the last file of the page before, $2 most files → the uploads whose bytes must be on a disk, and how many.
pub const UPLOADS: &str = "SELECT id, received FROM files \
    WHERE id > $1 AND received > 0 AND (state = 'uploading' OR state = 'scanning' AND sha256 IS NULL) \
    ORDER BY id LIMIT $2";
/// $1 file → the bytes of an upload that must be on a disk.
pub const RECEIVED: &str = "SELECT received FROM files \
    WHERE id = $1 AND (state = 'uploading' OR state = 'scanning' AND sha256 IS NULL)";
