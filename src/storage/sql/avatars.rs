//! The statements of users' pictures. They run as `chat_writer`.

/// $1 hash, $2 bytes → the number of the content; see `commit/reserve_content.sql`.
pub const NAME: &str = "SELECT reserve_content($1, $2)";
/// $1 user, $2 address, $3 hash, $4 number → whether the content still has this number; see `commit/adopt_avatar.sql`.
pub const ADOPT: &str = "SELECT adopt_avatar($1, $2, $3, $4)";
/// $1 address → the content of the picture that a user shows.
pub const CONTENT: &str = "SELECT b.sha256, b.number, b.size FROM user_avatars a \
    JOIN users u ON u.id = a.user_id AND u.avatar_url = a.url JOIN blobs b ON b.sha256 = a.sha256 WHERE a.url = $1";
