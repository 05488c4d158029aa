-- Messages and what belongs to them.
--
-- messages is the hot table. It has only the indexes that it needs and no foreign keys: the inserting statement joins
-- conversation_members, whose foreign keys vouch for conversation and sender.

CREATE TYPE message_type AS ENUM ('text', 'image', 'file', 'system');

CREATE SEQUENCE message_ids AS bigint MAXVALUE 9007199254740991 CACHE 256;

CREATE TABLE messages (
    conversation_id   bigint       NOT NULL,
    seq               bigint       NOT NULL,
    id                bigint       NOT NULL DEFAULT nextval('message_ids'),
    sender_id         bigint       NOT NULL,
    parent_message_id bigint,
    -- How many messages the conversation had up to this one. System messages do not count, so they repeat the ordinal
    -- before them. Unread messages are the difference of two ordinals, less the own and the deleted ones.
    ordinal           bigint       NOT NULL,
    created_at        timestamptz  NOT NULL DEFAULT now(),
    edited_at         timestamptz,
    deleted_at        timestamptz,
    message_type      message_type NOT NULL DEFAULT 'text',
    content           text         NOT NULL,
    client_message_id text         CHECK (octet_length(client_message_id) <= 64),
    -- Of a system message: who joined, left, or was added or removed, and by whom.
    system            jsonb,
    PRIMARY KEY (conversation_id, seq),
    -- So messages_dedupe_key has every message of a sender.
    CHECK ((message_type = 'system') = (client_message_id IS NULL))
);
CREATE UNIQUE INDEX messages_id_key ON messages (id);
-- Never swept: a repeated send returns the first result, however late it arrives. With seq in it, the index alone
-- counts how many messages a sender has after a marker.
CREATE UNIQUE INDEX messages_dedupe_key ON messages (conversation_id, sender_id, client_message_id) INCLUDE (seq)
    WHERE client_message_id IS NOT NULL;
CREATE INDEX messages_by_parent ON messages (parent_message_id, seq) INCLUDE (sender_id)
    WHERE parent_message_id IS NOT NULL;
-- The deleted messages after a marker are counted and subtracted.
CREATE INDEX messages_deleted ON messages (conversation_id, seq) INCLUDE (sender_id)
    WHERE deleted_at IS NOT NULL AND message_type <> 'system';
CREATE INDEX messages_deleted_replies ON messages (parent_message_id, seq) INCLUDE (sender_id)
    WHERE deleted_at IS NOT NULL AND parent_message_id IS NOT NULL;

CREATE TABLE message_mentions (
    message_id      bigint NOT NULL,
    user_id         bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    conversation_id bigint NOT NULL,
    seq             bigint NOT NULL,
    sender_id       bigint NOT NULL,
    PRIMARY KEY (message_id, user_id)
);
CREATE INDEX message_mentions_by_user ON message_mentions (user_id, message_id);
-- With sender_id in it, the index alone counts the mentions by others.
CREATE INDEX message_mentions_by_place ON message_mentions (user_id, conversation_id, seq) INCLUDE (sender_id);

-- Texts that an edit replaced. The present text is in messages.
CREATE TABLE message_edits (
    message_id      bigint      NOT NULL,
    number          integer     NOT NULL,
    conversation_id bigint      NOT NULL,
    content         text        NOT NULL,
    written_at      timestamptz NOT NULL,
    PRIMARY KEY (message_id, number)
);

CREATE TABLE message_reactions (
    message_id      bigint      NOT NULL,
    emoji           text        NOT NULL CHECK (octet_length(emoji) BETWEEN 1 AND 64),
    user_id         bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    conversation_id bigint      NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (message_id, emoji, user_id)
);

CREATE TABLE message_pins (
    conversation_id bigint      NOT NULL REFERENCES conversations ON DELETE CASCADE,
    message_id      bigint      NOT NULL,
    pinned_by       bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    pinned_at       timestamptz NOT NULL DEFAULT now(),
    seq             bigint      NOT NULL,
    PRIMARY KEY (conversation_id, message_id)
);

CREATE TABLE thread_statistics (
    root_message_id bigint      PRIMARY KEY,
    conversation_id bigint      NOT NULL,
    reply_count     bigint      NOT NULL,
    last_reply_at   timestamptz NOT NULL
);

CREATE TABLE thread_followers (
    root_message_id bigint NOT NULL,
    user_id         bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    conversation_id bigint NOT NULL,
    read_seq        bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (root_message_id, user_id)
);
CREATE INDEX thread_followers_by_user ON thread_followers (user_id, root_message_id);
