//! The statements of bots that programs sign in as. The account pool runs them as `chat_writer`.

/// $1 owner, $2 username, $3 name, $4 picture, $5 bio, $6 bots that the owner may have, $7 audit row → the bot.
pub const CREATE: &str = "SELECT create_bot($1, $2, $3, $4, $5, $6, $7)";
/// $1 owner, $2 bot, $3 name, $4 whether to set the picture, $5 picture, $6 whether to set the bio, $7 bio, $8 audit
/// row → whether there is one.
pub const CHANGE: &str = "SELECT change_bot($1, $2, $3, $4, $5, $6, $7, $8)";
/// $1 owner, $2 bot, $3 audit row → the sessions that it had; null if there is none.
pub const DELETE: &str = "SELECT delete_bot($1, $2, $3)";
/// $1 owner → their bots.
pub const LIST: &str = "SELECT bot_json(b) FROM bots b WHERE b.owner_id = $1 AND b.is_managed ORDER BY b.user_id";
/// Every bot of every user, a bounded number of them.
pub const LIST_ALL: &str = "SELECT bot_json(b) FROM bots b WHERE b.is_managed ORDER BY b.user_id LIMIT 1000";
/// $1 owner, $2 bot → the bot.
pub const GET: &str = "SELECT bot_json(b) FROM bots b WHERE b.owner_id = $1 AND b.user_id = $2 AND b.is_managed";
/// $1 bot → its conversations.
pub const CONVERSATIONS: &str =
    "SELECT conversation_id FROM conversation_members WHERE user_id = $1 ORDER BY conversation_id";
/// $1 owner, $2 bot, $3 name, $4 digest, $5 scopes, $6 conversations, $7 lifetime in seconds, $8 address, $9 audit row
/// → the session and when it expires.
pub const ADD_TOKEN: &str = "SELECT session_id, expires_at FROM add_bot_token($1, $2, $3, $4, $5, $6, $7, $8, $9)";
/// $1 owner, $2 bot, $3 session, $4 audit row → whether there was one.
pub const REVOKE_TOKEN: &str = "SELECT revoke_bot_token($1, $2, $3, $4)";
/// $1 owner, $2 bot → the tokens of the bot that have not expired.
pub const LIST_TOKENS: &str = "SELECT t.session_id, t.name, t.scopes, t.conversation_ids, t.created_at, t.expires_at, \
        t.last_used_at \
    FROM bot_tokens t JOIN bots b ON b.user_id = t.bot_id \
    WHERE b.owner_id = $1 AND b.user_id = $2 AND b.is_managed AND t.expires_at > now() ORDER BY t.session_id";
/// $1 bot, $2 digest → the session of a token that is valid now, what it permits, and the age of the account in
/// seconds. Notes the use, once a minute.
pub const USE_TOKEN: &str = "WITH noted AS (UPDATE bot_tokens SET last_used_at = now() WHERE token_hash = $2 \
        AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')) \
    SELECT t.session_id, t.scopes, t.conversation_ids, extract(epoch FROM now() - u.created_at)::bigint \
    FROM bot_tokens t JOIN sessions s ON s.id = t.session_id JOIN users u ON u.id = t.bot_id \
    JOIN bots b ON b.user_id = t.bot_id JOIN users o ON o.id = b.owner_id \
    WHERE t.token_hash = $2 AND t.bot_id = $1 AND t.expires_at > now() AND s.revoked_at IS NULL \
      AND u.is_active AND o.is_active";
/// $1 owner, $2 bot, $3 commands, $4 key and $5 sealed secret for the case that it needs one, $6 audit row → whether
/// the secret is in use now; null if there is no such bot.
pub const REPLACE_COMMANDS: &str = "SELECT replace_bot_commands($1, $2, $3, $4, $5, $6)";
/// $1 owner, $2 bot, $3 key, $4 sealed secret, $5 audit row → whether there is one.
pub const ROTATE_SECRET: &str = "SELECT rotate_bot_secret($1, $2, $3, $4, $5)";
/// $1 bot, $2 command → its URL, and the key and the sealed secret of the bot.
pub const COMMAND_URL: &str = "SELECT c.url, b.key_id, b.sealed \
    FROM bot_commands c JOIN bots b ON b.user_id = c.bot_id \
    WHERE c.bot_id = $1 AND c.name = $2 AND c.url IS NOT NULL AND b.sealed IS NOT NULL";
/// $1 user, $2 conversation → the commands of the bots that are members; refuses users who are not.
pub const COMMANDS_OF_CONVERSATION: &str = "SELECT conversation_commands($1, $2)";
/// The keys that secrets are encrypted with, and how many bots have each.
pub const KEYS_IN_USE: &str = "SELECT key_id, count(*) FROM bots WHERE key_id IS NOT NULL GROUP BY key_id";
/// $1 the present key, $2 the last bot seen, $3 most → bots whose secret has another key.
pub const TO_RESEAL: &str = "SELECT user_id, key_id, sealed FROM bots \
    WHERE key_id <> $1 AND user_id > $2 ORDER BY user_id LIMIT $3";
/// $1 bot, $2 its secret so far, $3 key, $4 secret: unless it was replaced meanwhile.
pub const RESEAL: &str = "UPDATE bots SET key_id = $3, sealed = $4 WHERE user_id = $1 AND sealed = $2 RETURNING true";
/// $1 bot → its commands.
pub const LIST_COMMANDS: &str = "SELECT jsonb_build_object('name', c.name, 'description', c.description, \
        'usage', c.usage, 'url', c.url) FROM bot_commands c WHERE c.bot_id = $1 ORDER BY c.position";
