-- Two-factor authentication: the secrets of authenticator apps, backup codes, and sign-ins that wait for a code.

-- When a second factor was last given in the session. Dangerous actions need a recent one.
ALTER TABLE sessions ADD COLUMN factor_at timestamptz;

CREATE TABLE two_factor (
    user_id       bigint      PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    -- Random; a new secret has another number. What was checked against an earlier secret does not count for it.
    enrolment     bigint      NOT NULL,
    -- The secret, encrypted (auth/sealed.rs), and the id of its key.
    sealed_secret bytea       NOT NULL CHECK (octet_length(sealed_secret) <= 200),
    key_id        text        NOT NULL CHECK (char_length(key_id) BETWEEN 1 AND 64),
    -- The step of the last accepted code. It only moves forward, so each code works once.
    last_step     bigint      NOT NULL DEFAULT 0,
    created_at    timestamptz NOT NULL DEFAULT now(),
    -- Null until the user has shown a code of the secret.
    confirmed_at  timestamptz
);
CREATE INDEX two_factor_by_key ON two_factor (key_id, user_id);
CREATE INDEX two_factor_pending ON two_factor (created_at) WHERE confirmed_at IS NULL;

-- Digests of the unused backup codes. Using one deletes its row.
CREATE TABLE backup_codes (
    user_id   bigint NOT NULL REFERENCES two_factor ON DELETE CASCADE,
    code_hash bytea  NOT NULL CHECK (octet_length(code_hash) = 32),
    PRIMARY KEY (user_id, code_hash)
);

-- Sign-ins with the right password that wait for a code. Only digests of the challenges are stored.
CREATE TABLE sign_in_challenges (
    challenge_hash  bytea       PRIMARY KEY CHECK (octet_length(challenge_hash) = 32),
    user_id         bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    -- SHA-256 of the password hash that was verified. A new password voids the challenge.
    password_digest bytea       NOT NULL CHECK (octet_length(password_digest) = 32),
    device_name     text        NOT NULL CHECK (char_length(device_name) <= 200),
    -- Codes that were tried. Counted before a code is checked, so that parallel ones count too.
    attempts        integer     NOT NULL DEFAULT 0,
    expires_at      timestamptz NOT NULL
);
CREATE INDEX sign_in_challenges_by_user ON sign_in_challenges (user_id, expires_at);
CREATE INDEX sign_in_challenges_by_expiry ON sign_in_challenges (expires_at);

ALTER TABLE two_factor ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE backup_codes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE sign_in_challenges ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- A shard asks whether the user of a new WebSocket has a second factor.
GRANT SELECT (user_id, confirmed_at) ON two_factor TO chat_app;
CREATE POLICY app_reads ON two_factor FOR SELECT TO chat_app USING (user_id = app_user_id());

GRANT SELECT, INSERT, UPDATE, DELETE ON two_factor, sign_in_challenges TO chat_writer;
GRANT SELECT, INSERT, DELETE ON backup_codes TO chat_writer;
CREATE POLICY writer_accounts ON two_factor TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_accounts ON backup_codes TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_accounts ON sign_in_challenges TO chat_writer USING (true) WITH CHECK (true);

-- A server of an earlier version that shares the database does not ask for codes. It cannot open sessions of users who
-- have a second factor.
CREATE POLICY writer_signs_in ON sessions AS RESTRICTIVE FOR INSERT TO chat_writer WITH CHECK (
    factor_at IS NOT NULL OR NOT EXISTS (
        SELECT FROM two_factor f WHERE f.user_id = sessions.user_id AND f.confirmed_at IS NOT NULL));
