//! The statements of webhooks. The account pool runs them as `chat_writer`.

/// The columns of a webhook, for [`super::super::webhooks`].
macro_rules! webhook {
    ($from:literal) => {
        concat!(
            "SELECT w.id, w.owner_id, w.conversation_id, w.url, w.events, w.is_ordered, w.created_at, w.disabled_at, \
                w.disabled_reason, w.failures, w.paused_until, w.last_success_at, w.last_failure_at, \
                w.key_id, w.sealed, w.previous_key_id, w.previous_sealed, w.previous_until, \
                greatest(extract(epoch FROM w.paused_until - now()), 0)::float8 AS paused_s, w.version ",
            $from
        )
    };
}

/// A number for a new webhook: its secret is encrypted for it before it is stored.
pub const NEXT_ID: &str = "SELECT nextval('webhook_ids')";
/// $1 webhook, $2 user, $3 conversation, $4 address, $5 events, $6 ordered, $7 key, $8 sealed secret, $9 audit row.
pub const CREATE: &str = "SELECT create_webhook($1, $2, $3, $4, $5, $6, $7, $8, $9)";
/// $1 user, $2 conversation or null → the user's webhooks; with a conversation, those that the user may manage in it.
pub const LIST: &str = webhook!(
    "FROM webhooks w WHERE CASE WHEN $2::bigint IS NULL THEN w.owner_id = $1 \
        ELSE w.conversation_id = $2 AND (w.owner_id = $1 OR EXISTS (SELECT FROM conversation_members m \
            WHERE m.conversation_id = $2 AND m.user_id = $1 AND m.role >= 'admin')) END ORDER BY w.id LIMIT 100"
);
/// $1 user, $2 webhook → the webhook, if the user may manage it.
pub const MANAGED: &str = webhook!("FROM managed_webhook($1, $2) w");
/// $1 webhook → the webhook, if its owner is active.
pub const LOAD: &str = webhook!("FROM webhooks w JOIN users u ON u.id = w.owner_id AND u.is_active WHERE w.id = $1");
/// $1 user, $2 webhook, $3 address, $4 events, $5 ordered, $6 active, $7 audit row → whether there is one.
pub const CHANGE: &str = "SELECT change_webhook($1, $2, $3, $4, $5, $6, $7)";
/// $1 user, $2 webhook, $3 key, $4 sealed secret, $5 seconds for which the old one signs too, $6 audit row.
pub const ROTATE: &str = "SELECT rotate_webhook_secret($1, $2, $3, $4, $5, $6)";
/// $1 user, $2 webhook, $3 audit row → whether there was one.
pub const DELETE: &str = "SELECT delete_webhook($1, $2, $3)";
/// $1 user, $2 webhook, $3 from, $4 to, $5 conversation, $6 from seq, $7 to seq, $8 audit row → how many are sent.
pub const REPLAY: &str = "SELECT replay_webhook($1, $2, $3, $4, $5, $6, $7, $8)";
/// $1 user, $2 webhook, $3 state or null, $4 cursor, $5 most → deliveries of a webhook, the newest first.
pub const DELIVERIES: &str = "SELECT d.id, d.conversation_id, d.seq, d.kind, d.state, d.attempts, d.created_at, \
        d.settled_at, CASE WHEN d.state = 'pending' THEN d.next_at END, d.log \
    FROM webhook_deliveries d WHERE d.webhook_id = $2 AND EXISTS (SELECT FROM managed_webhook($1, $2)) \
        AND ($3::text IS NULL OR d.state = $3) AND d.id < $4 ORDER BY d.id DESC LIMIT $5";

/// $1 webhook, $2 events of each log, $3 deliveries that may wait → whether there are more.
pub const QUEUE: &str = "SELECT queue_webhook_events($1, $2, $3)";
/// $1 webhook, $2 most → deliveries that are due.
pub const DUE: &str = "SELECT conversation_id, seq, attempts FROM waiting_webhook_deliveries($1) \
    WHERE due_at <= now() ORDER BY place, due_at, conversation_id, seq LIMIT $2";
/// $1 webhook, $2 conversations, $3 seqs, $4 states, $5 seconds before the next attempt, $6 attempts, $7 version of the
/// webhook, $8 failures in a row, $9 seconds for which nothing is sent, $10 why the webhook is disabled → how many
/// other deliveries are given up.
pub const SETTLE: &str = "SELECT settle_webhook_deliveries($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
/// $1 webhook → seconds until the next delivery is due; null without any.
pub const NEXT_DUE: &str = "SELECT greatest(extract(epoch FROM greatest(min(d.due_at), max(w.paused_until)) - now()), \
        0)::float8 \
    FROM webhooks w CROSS JOIN LATERAL waiting_webhook_deliveries(w.id) d \
    WHERE w.id = $1 AND w.disabled_at IS NULL";
/// $1 conversations.
pub const WAKE: &str = "SELECT wake_webhooks($1)";
/// $1 webhook, $2 most → the last of the webhooks after that one that were looked at; null after the last of all.
pub const WAKE_BEHIND: &str = "SELECT wake_webhooks_behind($1, $2)";
/// Whether there is an active webhook.
pub const ANY: &str = "SELECT EXISTS (SELECT FROM webhooks WHERE disabled_at IS NULL)";
/// Deliveries of active webhooks that wait, and seconds since the oldest of them was queued.
pub const BACKLOG: &str = "SELECT count(*), coalesce(extract(epoch FROM now() - min(d.queued_at)), 0)::float8 \
    FROM webhooks w JOIN webhook_deliveries d ON d.webhook_id = w.id AND d.state = 'pending' \
    WHERE w.disabled_at IS NULL";
/// $1 state, $2 seconds for which it is kept, $3 most → each delivery that was removed.
pub const SWEEP: &str = "DELETE FROM webhook_deliveries d WHERE (d.webhook_id, d.conversation_id, d.seq) IN ( \
    SELECT x.webhook_id, x.conversation_id, x.seq FROM webhook_deliveries x \
    WHERE x.state = $1 AND x.settled_at < now() - make_interval(secs => $2) \
    ORDER BY x.settled_at LIMIT $3) RETURNING 1";

/// $1 key, $2 webhook, $3 most → secrets that another key encrypts, of webhooks after that one.
pub const TO_RESEAL: &str = "SELECT id, key_id, sealed, previous_key_id, previous_sealed FROM webhooks \
    WHERE id > $2 AND (key_id <> $1 OR previous_key_id <> $1) ORDER BY id LIMIT $3";
/// $1 webhook, $2 key and $3 secret as they were, $4 key, $5 secret, $6 previous secret.
pub const RESEAL: &str = "UPDATE webhooks SET key_id = $4, sealed = $5, \
        previous_key_id = CASE WHEN $6::bytea IS NULL THEN NULL ELSE $4 END, previous_sealed = $6, \
        previous_until = CASE WHEN $6::bytea IS NULL THEN NULL ELSE previous_until END \
    WHERE id = $1 AND key_id = $2 AND sealed = $3";
/// Keys that encrypt secrets of webhooks, and how many.
pub const KEYS_IN_USE: &str = "SELECT key_id, count(*) FROM webhooks GROUP BY key_id";
