//! The statements of users' standing. The account pool runs them as `chat_writer`.

/// $1 administrators of the server, $2 most rows → the users whose limits are shrunk.
pub const MARKED_USERS: &str = "SELECT user_id, reported, slowed FROM marked_users($1, $2)";
/// $1 user → name, age, and whether the account is active.
pub const ACCOUNT: &str = "SELECT username, created_at, is_active FROM users WHERE id = $1";
