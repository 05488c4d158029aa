//! The statements of two-factor authentication. They run as `chat_writer`, without an `app.user_id`.
//!
//! A code is used up by one statement that compares and sets: [`USE_STEP`] or [`USE_BACKUP_CODE`]. Of parallel uses the
//! row lock lets one through, and the others then see what it did.

/// $1 session, $2 user, $3 seconds for which a factor is fresh → a row if both are active: whether the user has a
/// second factor, whether it was given in this session lately, and the age of the account in seconds.
pub const SESSION_STATE: &str = "
SELECT EXISTS (SELECT FROM two_factor f WHERE f.user_id = u.id AND f.confirmed_at IS NOT NULL) AS two_factor,
       coalesce(s.factor_at > now() - make_interval(secs => $3), false) AS fresh,
       coalesce(s.factor_at > now() - make_interval(secs => $4), false) AS may_read,
       extract(epoch FROM now() - u.created_at)::bigint AS account_age_s
  FROM sessions s JOIN users u ON u.id = s.user_id
 WHERE s.id = $1 AND s.user_id = $2 AND s.revoked_at IS NULL AND u.is_active
   AND (NOT u.is_bot OR EXISTS (SELECT FROM bot_tokens t WHERE t.session_id = s.id AND t.expires_at > now()))";

/// $1 user → whether it is on, and the number of unused backup codes.
pub const SUMMARY: &str = "
SELECT EXISTS (SELECT FROM two_factor f WHERE f.user_id = $1 AND f.confirmed_at IS NOT NULL) AS enabled,
       (SELECT count(*) FROM backup_codes b WHERE b.user_id = $1) AS backup_codes";

/// $1 user, $2 enrolment, $3 sealed secret, $4 key id; no row if two-factor authentication is on already. Replaces a
/// pending secret.
pub const BEGIN_ENROLMENT: &str = "
INSERT INTO two_factor AS f (user_id, enrolment, sealed_secret, key_id) VALUES ($1, $2, $3, $4)
ON CONFLICT (user_id) DO UPDATE
   SET enrolment = $2, sealed_secret = $3, key_id = $4, last_step = 0, created_at = now()
 WHERE f.confirmed_at IS NULL";

/// $1 user, $2 seconds for which an enrolment stays pending → its secret.
pub const PENDING_SECRET: &str = "
SELECT enrolment, sealed_secret, key_id FROM two_factor
 WHERE user_id = $1 AND confirmed_at IS NULL AND created_at > now() - make_interval(secs => $2)";

/// $1 user → the secret in force.
pub const CONFIRMED_SECRET: &str = "
SELECT enrolment, sealed_secret, key_id FROM two_factor WHERE user_id = $1 AND confirmed_at IS NOT NULL";

/// $1 user, $2 enrolment, $3 step of the code, $4 seconds as for [`PENDING_SECRET`]. The step counts as used.
pub const CONFIRM: &str = "
UPDATE two_factor SET confirmed_at = now(), last_step = $3
 WHERE user_id = $1 AND enrolment = $2 AND confirmed_at IS NULL AND last_step < $3
   AND created_at > now() - make_interval(secs => $4)";

/// $1 user, $2 enrolment, $3 step of the code; no row if this step or a later one was used.
pub const USE_STEP: &str = "
UPDATE two_factor SET last_step = $3
 WHERE user_id = $1 AND enrolment = $2 AND confirmed_at IS NOT NULL AND last_step < $3";

/// $1 user, $2 digest; no row if there is no such code, or not any longer.
pub const USE_BACKUP_CODE: &str = "DELETE FROM backup_codes WHERE user_id = $1 AND code_hash = $2";

/// $1 user. A lock of the user's row comes first: two new sets at once would otherwise be mixed.
pub const DROP_BACKUP_CODES: &str = "
WITH f AS (SELECT user_id FROM two_factor WHERE user_id = $1 FOR UPDATE)
DELETE FROM backup_codes b USING f WHERE b.user_id = f.user_id";

/// $1 user, $2 digests.
pub const ADD_BACKUP_CODES: &str = "
INSERT INTO backup_codes (user_id, code_hash) SELECT $1, unnest($2::bytea[])";

/// $1 user. Takes the backup codes along.
pub const DISABLE: &str = "DELETE FROM two_factor WHERE user_id = $1 AND confirmed_at IS NOT NULL";

/// $1 session, $2 user: a second factor was given in it.
pub const MARK_SESSION: &str = "UPDATE sessions SET factor_at = now() WHERE id = $1 AND user_id = $2";

/// $1 digest of the challenge, $2 user, $3 the hash that the password matched, $4 `device_name`, $5 lifetime in
/// seconds, $6 challenges that a user keeps beside the new one. No row if the password was changed since.
pub const OPEN_CHALLENGE: &str = "
WITH old AS (
    DELETE FROM sign_in_challenges
     WHERE challenge_hash IN (SELECT x.challenge_hash FROM sign_in_challenges x
                               WHERE x.user_id = $2 ORDER BY x.expires_at DESC OFFSET $6)
)
INSERT INTO sign_in_challenges (challenge_hash, user_id, password_digest, device_name, expires_at)
SELECT $1, c.user_id, sha256(convert_to(c.password_hash, 'UTF8')), $4, now() + make_interval(secs => $5)
  FROM credentials c WHERE c.user_id = $2 AND c.password_hash = $3";

/// $1 digest, $2 attempts that a challenge allows, $3 the client's network → its user, as [`super::accounts`] finds
/// logins, and the name of the device. No row for a challenge that is over.
pub const FIND_CHALLENGE: &str = "
SELECT u.id, u.username, c.password_hash, true AS two_factor, ch.device_name,
       EXISTS (SELECT FROM (SELECT s.ip FROM sessions s WHERE s.user_id = u.id ORDER BY s.id DESC LIMIT 200) s
                WHERE s.ip::inet <<= $3::text::cidr) AS familiar
  FROM sign_in_challenges ch
  JOIN users u ON u.id = ch.user_id
  JOIN credentials c ON c.user_id = ch.user_id
 WHERE ch.challenge_hash = $1 AND ch.attempts < $2 AND ch.expires_at > now() AND u.is_active
   AND ch.password_digest = sha256(convert_to(c.password_hash, 'UTF8'))";

/// $1 digest, $2 attempts that a challenge allows → the attempts so far, this one included.
pub const CHARGE_CHALLENGE: &str = "
UPDATE sign_in_challenges SET attempts = attempts + 1
 WHERE challenge_hash = $1 AND attempts < $2 AND expires_at > now()
RETURNING attempts";

/// $1 digest; no row if it was answered before.
pub const END_CHALLENGE: &str = "DELETE FROM sign_in_challenges WHERE challenge_hash = $1";

/// $1 user, $2 the hash of an older version that the password matched, $3 the new one.
pub const REHASH_PASSWORD: &str = "
UPDATE credentials SET password_hash = $3 WHERE user_id = $1 AND password_hash = $2";

/// The keys of all secrets, and how many secrets each has.
pub const KEYS_IN_USE: &str = "SELECT key_id, count(*) FROM two_factor GROUP BY key_id ORDER BY key_id LIMIT 100";

/// $1 the present key, $2 the last user seen, $3 limit → secrets under other keys.
pub const SECRETS_TO_RESEAL: &str = "
SELECT user_id, enrolment, sealed_secret, key_id FROM two_factor
 WHERE key_id <> $1 AND user_id > $2 ORDER BY user_id LIMIT $3";

/// $1 user, $2 enrolment, $3 its key so far, $4 sealed secret, $5 its key from now on.
pub const RESEAL: &str = "
UPDATE two_factor SET sealed_secret = $4, key_id = $5 WHERE user_id = $1 AND enrolment = $2 AND key_id = $3";

/// Challenges that are over.
pub const SWEEP_CHALLENGES: &str = "
DELETE FROM sign_in_challenges
 WHERE challenge_hash IN (SELECT challenge_hash FROM sign_in_challenges WHERE expires_at < now() LIMIT 10000)";

/// Enrolments that were not confirmed. The outer condition spares one that was begun again at this moment.
pub const SWEEP_ENROLMENTS: &str = "
DELETE FROM two_factor
 WHERE user_id IN (SELECT user_id FROM two_factor
                    WHERE confirmed_at IS NULL AND created_at < now() - interval '1 hour' LIMIT 10000)
   AND confirmed_at IS NULL AND created_at < now() - interval '1 hour'";
