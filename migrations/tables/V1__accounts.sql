-- Accounts: who may sign in, from where, and with which refresh tokens.
--
-- Every signed-in user can read profiles (users). Everything that authenticates a person is separate (credentials,
-- sessions, refresh_tokens), so that a query of profiles cannot reach it.

CREATE SEQUENCE user_ids AS bigint MAXVALUE 9007199254740991;

CREATE TABLE users (
    id                bigint      PRIMARY KEY DEFAULT nextval('user_ids'),
    username          text        NOT NULL CHECK (username ~ '^[A-Za-z0-9_-]{3,50}$'),
    display_name      text        NOT NULL CHECK (char_length(display_name) BETWEEN 1 AND 100),
    avatar_url        text        CHECK (char_length(avatar_url) <= 2000),
    bio               text        CHECK (char_length(bio) <= 500),
    is_active         boolean     NOT NULL DEFAULT true,
    created_at        timestamptz NOT NULL DEFAULT now(),
    -- Whether others see how far the user has read. It belongs to the person and not to a device.
    receipts_private  boolean     NOT NULL DEFAULT false,
    -- Counts the changes of the profile. announced_version is the one that all conversations of the user have in their
    -- log; control/announcer.rs announces the difference, one conversation after the other.
    profile_version   bigint      NOT NULL DEFAULT 0,
    announced_version bigint      NOT NULL DEFAULT 0,
    announced_at      timestamptz NOT NULL DEFAULT '-infinity'
);
CREATE UNIQUE INDEX users_username_key ON users (lower(username));
CREATE INDEX users_by_username_prefix ON users (lower(username) text_pattern_ops);
CREATE INDEX users_unannounced ON users (announced_at) WHERE announced_version < profile_version;

CREATE TABLE credentials (
    user_id       bigint      PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    email         text        NOT NULL CHECK (char_length(email) BETWEEN 3 AND 254),
    password_hash text        NOT NULL,
    updated_at    timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX credentials_email_key ON credentials (lower(email));

CREATE SEQUENCE session_ids AS bigint MAXVALUE 9007199254740991;

-- A session is one sign-in and all refresh tokens that descend from it.
CREATE TABLE sessions (
    id           bigint      PRIMARY KEY DEFAULT nextval('session_ids'),
    user_id      bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    device_name  text        NOT NULL CHECK (char_length(device_name) <= 200),
    ip           text        NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(),
    revoked_at   timestamptz
);
CREATE INDEX sessions_by_user ON sessions (user_id, id);

-- Only SHA-256 digests are stored: nobody can sign in with what the table contains.
CREATE TABLE refresh_tokens (
    token_hash bytea       PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    session_id bigint      NOT NULL REFERENCES sessions ON DELETE CASCADE,
    user_id    bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    spent_at   timestamptz
);
CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id);

-- WebSocket tickets are signed. This table remembers the used ones until they expire, so that each works once.
CREATE TABLE spent_tickets (
    ticket_id  text        PRIMARY KEY CHECK (char_length(ticket_id) <= 64),
    user_id    bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    expires_at timestamptz NOT NULL
);
CREATE INDEX spent_tickets_by_expiry ON spent_tickets (expires_at);

CREATE TABLE user_blocks (
    user_id    bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    blocked_id bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, blocked_id),
    CHECK (user_id <> blocked_id)
);
CREATE INDEX user_blocks_by_blocked ON user_blocks (blocked_id);
