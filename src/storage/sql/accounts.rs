//! The statements for accounts. They run as `chat_writer`, without an `app.user_id`.
//!
//! A refresh token is inserted by a statement of its own, after its session: the row policy on `refresh_tokens` looks
//! the session up and does not see rows of the same statement.

/// $1 username, $2 `display_name`, $3 email, $4 `password_hash`, $5 `device_name`, $6 ip → profile, session.
/// The unique indexes refuse a taken username or email.
pub const REGISTER: &str = "
WITH u AS (
    INSERT INTO users (username, display_name) VALUES ($1, $2)
    RETURNING id, username, display_name, avatar_url, bio, receipts_private, group_invitations, created_at, is_bot
), c AS (
    INSERT INTO credentials (user_id, email, password_hash) SELECT u.id, $3, $4 FROM u
), s AS (
    INSERT INTO sessions (user_id, device_name, ip) SELECT u.id, $5, $6 FROM u RETURNING id
)
SELECT u.id, u.username, u.display_name, u.avatar_url, u.bio, u.receipts_private, u.group_invitations, u.created_at,
       u.is_bot, s.id AS session_id
  FROM u, s";

/// $1 digest, $2 session, $3 user, $4 lifetime in seconds.
pub const INSERT_REFRESH_TOKEN: &str = "
INSERT INTO refresh_tokens (token_hash, session_id, user_id, expires_at)
VALUES ($1, $2, $3, now() + make_interval(secs => $4))";

/// $1 username, $2 network → the user, the hash that the password must match, and whether a code is needed too.
pub const FIND_LOGIN_BY_USERNAME: &str = "
SELECT u.id, u.username, c.password_hash,
       EXISTS (SELECT FROM two_factor f WHERE f.user_id = u.id AND f.confirmed_at IS NOT NULL) AS two_factor,
       EXISTS (SELECT FROM (SELECT s.ip FROM sessions s WHERE s.user_id = u.id ORDER BY s.id DESC LIMIT 200) s
                WHERE s.ip::inet <<= $2::text::cidr) AS familiar
  FROM users u JOIN credentials c ON c.user_id = u.id
 WHERE lower(u.username) = lower($1) AND u.is_active";

/// $1 email → as by username.
pub const FIND_LOGIN_BY_EMAIL: &str = "
SELECT u.id, u.username, c.password_hash,
       EXISTS (SELECT FROM two_factor f WHERE f.user_id = u.id AND f.confirmed_at IS NOT NULL) AS two_factor,
       EXISTS (SELECT FROM (SELECT s.ip FROM sessions s WHERE s.user_id = u.id ORDER BY s.id DESC LIMIT 200) s
                WHERE s.ip::inet <<= $2::text::cidr) AS familiar
  FROM credentials c JOIN users u ON u.id = c.user_id
 WHERE lower(c.email) = lower($1) AND u.is_active";

/// $1 user → as by username.
pub const FIND_LOGIN_BY_ID: &str = "
SELECT u.id, u.username, c.password_hash, true AS familiar,
       EXISTS (SELECT FROM two_factor f WHERE f.user_id = u.id AND f.confirmed_at IS NOT NULL) AS two_factor
  FROM users u JOIN credentials c ON c.user_id = u.id
 WHERE u.id = $1 AND u.is_active";

/// $1 user, $2 the hash that the password matched, $3 `device_name`, $4 ip, $5 whether a second factor was given →
/// profile, session; no row when the password was changed since it was verified, or when a second factor is missing.
/// FOR SHARE orders this against a change of the password: either that change sees (and revokes) this session, or this
/// statement sees the new hash and opens no session.
pub const OPEN_SESSION: &str = "
WITH u AS (
    SELECT u.id, u.username, u.display_name, u.avatar_url, u.bio, u.receipts_private, u.group_invitations, u.created_at,
           u.is_bot
      FROM users u JOIN credentials c ON c.user_id = u.id
     WHERE u.id = $1 AND u.is_active AND c.password_hash = $2
       AND ($5 OR NOT EXISTS (SELECT FROM two_factor f WHERE f.user_id = u.id AND f.confirmed_at IS NOT NULL))
       FOR SHARE OF c
), s AS (
    INSERT INTO sessions (user_id, device_name, ip, factor_at)
    SELECT u.id, $3, $4, CASE WHEN $5 THEN now() END FROM u RETURNING id
)
SELECT u.id, u.username, u.display_name, u.avatar_url, u.bio, u.receipts_private, u.group_invitations, u.created_at,
       u.is_bot, s.id AS session_id
  FROM u, s";

/// $1 digest, $2 grace in seconds → the token with its session and user, locked: of two concurrent refreshes the second
/// waits here and then reads `spent`.
pub const LOCK_REFRESH_TOKEN: &str = "
SELECT t.session_id, t.spent_at IS NOT NULL AS spent, t.expires_at <= now() AS expired,
       t.spent_at > now() - make_interval(secs => $2) AS in_grace,
       s.revoked_at IS NOT NULL OR NOT u.is_active AS revoked,
       u.id, u.username, u.display_name, u.avatar_url, u.bio, u.receipts_private, u.group_invitations, u.created_at,
       u.is_bot
  FROM refresh_tokens t
  JOIN sessions s ON s.id = t.session_id
  JOIN users u ON u.id = t.user_id
 WHERE t.token_hash = $1
   FOR UPDATE OF t, s";

/// $1 the successor's digest, $2 session → whether it has been used. A statement of its own, because the snapshot of
/// [`LOCK_REFRESH_TOKEN`] may be older than the refresh that it waited for.
pub const SUCCESSOR_IS_SPENT: &str = "
SELECT spent_at IS NOT NULL FROM refresh_tokens WHERE token_hash = $1 AND session_id = $2";

/// $1 digest.
pub const SPEND_REFRESH_TOKEN: &str = "UPDATE refresh_tokens SET spent_at = now() WHERE token_hash = $1";

/// $1 session, $2 ip, or NULL to keep the one that is known.
pub const TOUCH_SESSION: &str = "UPDATE sessions SET last_used_at = now(), ip = coalesce($2, ip) WHERE id = $1";

/// $1 session, $2 user, $3 the session that asks for it, $4 action, $5 reason and $6 source for the audit trail → a row
/// when it was active.
pub const REVOKE_SESSION: &str = "
WITH r AS (
    UPDATE sessions SET revoked_at = now() WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL RETURNING id
)
SELECT append_audit(jsonb_build_array($6::jsonb || jsonb_build_object(
           'user_id', $2::bigint, 'session_id', $3::bigint, 'action', $4::text, 'reason', $5::text,
           'target_type', 'session', 'target_id', r.id)))
  FROM r";

/// $1 user, $2 the session that asks for it, $3 source for the audit trail → the sessions that this revoked.
pub const SIGN_OUT_ALL: &str = "
WITH r AS (
    UPDATE sessions SET revoked_at = now() WHERE user_id = $1 AND revoked_at IS NULL RETURNING id
), a AS (
    SELECT append_audit(jsonb_build_array($3::jsonb || jsonb_build_object(
               'user_id', $1::bigint, 'session_id', $2::bigint, 'action', 'sign_out_all',
               'target_type', 'user', 'target_id', $1::bigint, 'details', jsonb_build_object('revoked', x.ids))))
      FROM (SELECT jsonb_agg(r.id ORDER BY r.id) AS ids FROM r) x WHERE x.ids IS NOT NULL
)
SELECT r.id FROM r, a";

/// $1 user, $2 session to keep (or null) → the sessions that this revoked.
pub const REVOKE_ALL: &str = "
UPDATE sessions SET revoked_at = now()
 WHERE user_id = $1 AND revoked_at IS NULL AND id IS DISTINCT FROM $2::bigint
RETURNING id";

/// $1 user → sessions that can still be used: not revoked, with a refresh token that is neither spent nor expired.
pub const LIST_SESSIONS: &str = "
SELECT s.id, s.device_name, s.ip, s.created_at, s.last_used_at
  FROM sessions s
 WHERE s.user_id = $1 AND s.revoked_at IS NULL
   AND EXISTS (SELECT FROM refresh_tokens t
                WHERE t.session_id = s.id AND t.spent_at IS NULL AND t.expires_at > now())
 ORDER BY s.last_used_at DESC, s.id DESC
 LIMIT 200";

/// $1 session, $2 user → whether both are active.
pub const SESSION_IS_ACTIVE: &str = "
SELECT EXISTS (SELECT FROM sessions s JOIN users u ON u.id = s.user_id
                WHERE s.id = $1 AND s.user_id = $2 AND s.revoked_at IS NULL AND u.is_active)";

/// $1 user, $2 the hash that the current password matched, $3 the new hash; no row when it was changed meanwhile.
pub const CHANGE_PASSWORD: &str = "
UPDATE credentials SET password_hash = $3, updated_at = now() WHERE user_id = $1 AND password_hash = $2";

/// $1 user.
pub const PROFILE: &str = "
SELECT id, username, display_name, avatar_url, bio, receipts_private, group_invitations, created_at, is_bot
  FROM users WHERE id = $1 AND is_active";

/// $1 user → what a password must not be made of: the names, and the two parts of the address.
pub const OWN_NAMES: &str = "
SELECT ARRAY[u.username, u.display_name, split_part(c.email, '@', 1), split_part(c.email, '@', 2)]
  FROM users u JOIN credentials c ON c.user_id = u.id WHERE u.id = $1";

/// $1 query, $2 limit → users whose username begins with the query, or whose name has words that begin with it. Ranges
/// and words rather than LIKE, whose pattern is not known when the statement is planned.
pub const SEARCH_USERS: &str = "
SELECT id, username, display_name, avatar_url, bio, receipts_private, group_invitations, created_at, is_bot
  FROM users
 WHERE is_active AND (lower(username) ~>=~ lower($1) AND lower(username) ~<~ (lower($1) || chr(1114111))
                      OR to_tsvector('public.veza', folded(display_name)) @@ name_words($1))
 ORDER BY lower(username) = lower($1) DESC, lower(username)
 LIMIT $2";

/// $1 user, $2 new `display_name` or null to keep it, $3 whether to set `avatar_url`, $4 the new one or null, $5
/// whether to set `bio`, $6 the new one or null, $7 whether receipts are private or null to keep it, $8 who may add the
/// user to groups or null to keep it, $9 the session and $10 source for the audit trail. What others see of it counts
/// as a new version of the profile. NO KEY: the check of a foreign key, as of a mention, does not block commits.
pub const UPDATE_PROFILE: &str = "
WITH w AS (
UPDATE users u
   SET display_name = n.display_name, avatar_url = n.avatar_url, bio = n.bio,
       receipts_private = coalesce($7, u.receipts_private),
       group_invitations = coalesce($8, u.group_invitations),
       profile_version = u.profile_version
           + CASE WHEN (u.display_name, u.avatar_url, u.bio) IS DISTINCT FROM (n.display_name, n.avatar_url, n.bio)
                  THEN 1 ELSE 0 END
  FROM (SELECT coalesce($2, x.display_name) AS display_name, CASE WHEN $3 THEN $4 ELSE x.avatar_url END AS avatar_url,
               CASE WHEN $5 THEN $6 ELSE x.bio END AS bio,
               jsonb_build_object('display_name', x.display_name, 'avatar_url', x.avatar_url, 'bio', x.bio,
                                  'receipts_private', x.receipts_private,
                                  'group_invitations', x.group_invitations) AS before
          FROM users x WHERE x.id = $1 AND x.is_active FOR NO KEY UPDATE) n
 WHERE u.id = $1
RETURNING u.id, u.username, u.display_name, u.avatar_url, u.bio, u.receipts_private, u.group_invitations, u.created_at,
          u.is_bot,
          audit_difference(n.before, jsonb_build_object('display_name', u.display_name, 'avatar_url', u.avatar_url,
              'bio', u.bio, 'receipts_private', u.receipts_private,
              'group_invitations', u.group_invitations)) AS changed
)
SELECT w.*, CASE WHEN w.changed IS NOT NULL THEN append_audit(jsonb_build_array($10::jsonb || jsonb_build_object(
                'user_id', w.id, 'session_id', $9::bigint, 'action', 'update_profile',
                'target_type', 'user', 'target_id', w.id, 'details', w.changed))) END
  FROM w";

/// $1 limit → users whose profile has changed since it was announced in all of their conversations, with its version;
/// the same user at most every few seconds.
pub const UNANNOUNCED: &str = "
SELECT id, profile_version FROM users
 WHERE announced_version < profile_version AND announced_at < now() - interval '5 seconds'
 ORDER BY announced_at LIMIT $1";

/// $1 user, $2 version, $3 the last conversation seen, $4 limit → conversations whose log does not announce it yet.
pub const UNTOLD: &str = "
SELECT conversation_id FROM conversation_members
 WHERE user_id = $1 AND conversation_id > $3 AND profile_version < $2 ORDER BY conversation_id LIMIT $4";

/// $1 user, $2 version: it is announced in all of their conversations.
pub const ANNOUNCED: &str = "
UPDATE users SET announced_version = greatest(announced_version, $2), announced_at = now() WHERE id = $1";

/// Ends sessions whose last refresh token, or whose token of a bot, has expired. There is no race, because an expired
/// token is never rotated.
pub const SWEEP_SESSIONS: &str = "
UPDATE sessions s SET revoked_at = now()
 WHERE s.id IN (SELECT x.id FROM sessions x
                 WHERE x.revoked_at IS NULL
                   AND NOT EXISTS (SELECT FROM refresh_tokens t
                                    WHERE t.session_id = x.id AND t.spent_at IS NULL AND t.expires_at > now())
                   AND NOT EXISTS (SELECT FROM bot_tokens b WHERE b.session_id = x.id AND b.expires_at > now())
                 LIMIT 10000)";

/// Spent tokens stay until they would have expired, because their reuse is a sign of theft until then. They stay a day
/// longer so that a client receives `refresh_expired` and not `refresh_invalid`.
pub const SWEEP_REFRESH_TOKENS: &str = "
DELETE FROM refresh_tokens
 WHERE token_hash IN (SELECT token_hash FROM refresh_tokens WHERE expires_at < now() - interval '1 day' LIMIT 10000)";

/// The minute covers the leeway in the check of a ticket's expiry. Without it, a ticket could be used twice.
pub const SWEEP_SPENT_TICKETS: &str = "
DELETE FROM spent_tickets
 WHERE ticket_id IN (SELECT ticket_id FROM spent_tickets WHERE expires_at < now() - interval '1 minute' LIMIT 10000)";

/// Additions by strangers that no budget counts any longer (`rules/addable_users.sql`).
pub const SWEEP_STRANGER_ADDITIONS: &str = "
DELETE FROM stranger_additions
 WHERE ctid = ANY (ARRAY(SELECT ctid FROM stranger_additions WHERE created_at <= now() - interval '1 hour'
                          ORDER BY created_at LIMIT 10000))";

/// Budgets of an hour that is over (`rules/charge_toggle.sql`).
pub const SWEEP_TOGGLE_BUDGETS: &str = "
DELETE FROM toggle_budgets
 WHERE user_id IN (SELECT user_id FROM toggle_budgets WHERE began_at <= now() - interval '1 hour'
                    ORDER BY began_at LIMIT 10000)";

/// Whether any account still has a hash of an older version.
pub const HAS_OLD_HASHES: &str = "SELECT EXISTS (SELECT FROM credentials WHERE password_hash LIKE '$2%')";

/// $1: most rows of one batch, $2: rows that stay. A mutation is submitted again after its connection was lost, so its
/// outcome is needed for as long as PostgreSQL may be away. The table keeps a day, and no more than the newest $2 rows
/// and what is written between two sweeps: at 2,000 changes a second it would grow by a gigabyte an hour.
pub const SWEEP_MUTATION_OUTCOMES: &str = "
WITH bound AS (
    SELECT greatest(now() - interval '1 day', (
        SELECT o.created_at FROM mutation_outcomes o ORDER BY o.created_at DESC OFFSET $2 LIMIT 1)) AS at)
DELETE FROM mutation_outcomes
 WHERE mutation_id IN (SELECT o.mutation_id FROM mutation_outcomes o, bound b WHERE o.created_at < b.at
                        ORDER BY o.created_at LIMIT $1)";
