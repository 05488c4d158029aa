//! The statements of incoming webhooks. The account pool runs them as `chat_writer`.

/// $1 user, $2 conversation, $3 name, $4 username, $5 hash of the token, $6 audit row → the webhook and its bot.
pub const CREATE: &str = "SELECT id, bot_id FROM create_incoming_webhook($1, $2, $3, $4, $5, $6)";
/// $1 user, $2 webhook, $3 audit row → the bot and its conversation, if there was one.
pub const DELETE: &str = "SELECT bot_id, conversation_id FROM delete_incoming_webhook($1, $2, $3)";
/// $1 user, $2 webhook, $3 hash of the token, $4 audit row → whether there is one.
pub const ROTATE: &str = "SELECT rotate_incoming_webhook($1, $2, $3, $4)";
/// $1 user, $2 conversation or null → the webhooks that the user has made, or may manage in the conversation.
pub const LIST: &str = "SELECT w.id, w.conversation_id, w.bot_id, u.display_name, b.owner_id, w.created_at, \
        w.last_used_at \
    FROM incoming_webhooks w JOIN bots b ON b.user_id = w.bot_id JOIN users u ON u.id = w.bot_id \
    WHERE CASE WHEN $2::bigint IS NULL THEN b.owner_id = $1 \
        ELSE w.conversation_id = $2 AND (b.owner_id = $1 OR EXISTS (SELECT FROM conversation_members m \
            WHERE m.conversation_id = $2 AND m.user_id = $1 AND m.role >= 'admin')) END ORDER BY w.id LIMIT 100";
/// $1 hash of the token → the conversation and the bot. Notes the use, once a minute.
pub const USE: &str = "WITH noted AS (UPDATE incoming_webhooks SET last_used_at = now() WHERE token_hash = $1 \
        AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')) \
    SELECT w.conversation_id, w.bot_id FROM incoming_webhooks w WHERE w.token_hash = $1";
