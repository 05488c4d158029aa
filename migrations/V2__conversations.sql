-- Conversations and their change log.
--
-- One table for direct, group and room conversations. Each change takes the next last_seq under the row's lock, in
-- the transaction that commits the change: that is what makes seq gapless and ordered for any number of writers.

CREATE TYPE conversation_kind AS ENUM ('direct', 'group', 'public_room', 'private_room');
-- Declared in rising order of power, so that roles compare with < and >.
CREATE TYPE member_role AS ENUM ('read_only', 'member', 'moderator', 'admin', 'owner');
CREATE TYPE message_type AS ENUM ('text', 'image', 'file', 'system');

CREATE SEQUENCE conversation_numbers AS bigint MAXVALUE 2251799813685246;

CREATE TABLE conversations (
    -- The two low bits repeat the kind (0 dm_, 1 group_, 2 room_): text form and number need no look-up.
    id          bigint            PRIMARY KEY,
    kind        conversation_kind NOT NULL,
    name        text              CHECK (char_length(name) BETWEEN 1 AND 100),
    description text              CHECK (char_length(description) <= 1000),
    owner_id    bigint            REFERENCES users,
    direct_low  bigint            REFERENCES users,
    direct_high bigint            REFERENCES users,
    last_seq    bigint            NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
    archived_at timestamptz,
    created_at  timestamptz       NOT NULL DEFAULT now(),
    CHECK (id > 0 AND id & 3 = CASE kind WHEN 'direct' THEN 0 WHEN 'group' THEN 1 ELSE 2 END),
    CHECK ((kind = 'direct') = (direct_low IS NOT NULL AND direct_high IS NOT NULL)),
    CHECK (direct_low < direct_high),
    CHECK (kind <> 'direct' OR (name IS NULL AND owner_id IS NULL)),
    CHECK (kind NOT IN ('public_room', 'private_room') OR name IS NOT NULL)
) WITH (fillfactor = 70); -- every batch updates last_seq; room on the page keeps those updates HOT
CREATE UNIQUE INDEX conversations_direct_key ON conversations (direct_low, direct_high) WHERE kind = 'direct';

CREATE TABLE conversation_members (
    conversation_id bigint      NOT NULL REFERENCES conversations ON DELETE CASCADE,
    user_id         bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    role            member_role NOT NULL DEFAULT 'member',
    joined_at       timestamptz NOT NULL DEFAULT now(),
    joined_seq      bigint      NOT NULL DEFAULT 0,
    read_seq        bigint      NOT NULL DEFAULT 0 CHECK (read_seq >= 0),
    muted_until     timestamptz,
    PRIMARY KEY (conversation_id, user_id)
) WITH (fillfactor = 80);
CREATE INDEX conversation_members_by_user ON conversation_members (user_id, conversation_id);

CREATE TABLE conversation_bans (
    conversation_id bigint      NOT NULL REFERENCES conversations ON DELETE CASCADE,
    user_id         bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    banned_by       bigint      REFERENCES users ON DELETE SET NULL,
    reason          text        CHECK (char_length(reason) <= 500),
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, user_id)
);

-- Counters apart from conversations: a statement's triggers add to them once, whatever the number of rows.
CREATE TABLE conversation_statistics (
    conversation_id bigint      PRIMARY KEY REFERENCES conversations ON DELETE CASCADE,
    message_count   bigint      NOT NULL DEFAULT 0,
    member_count    bigint      NOT NULL DEFAULT 0,
    last_message_at timestamptz
) WITH (fillfactor = 70);

-- Every mutation that is not a message.
CREATE TABLE conversation_events (
    conversation_id bigint      NOT NULL,
    seq             bigint      NOT NULL,
    kind            text        NOT NULL,
    actor_id        bigint      NOT NULL,
    payload         jsonb       NOT NULL,
    -- The server's own idempotency key: after a connection lost during COMMIT the same mutation is submitted again
    -- and finds its first result here.
    mutation_id     bigint      NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, seq)
);
CREATE INDEX conversation_events_by_mutation ON conversation_events (mutation_id);
