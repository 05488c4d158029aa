-- Conversations, their members and their change log.
--
-- One table for direct, group and room conversations. Each change takes the next last_seq under the row's lock, in the
-- transaction that commits the change. That makes seq gapless and ordered for any number of writers.

CREATE TYPE conversation_kind AS ENUM ('direct', 'group', 'public_room', 'private_room');
-- Declared in rising order of power, so that roles compare with < and >.
CREATE TYPE member_role AS ENUM ('read_only', 'member', 'moderator', 'admin', 'owner');

CREATE SEQUENCE conversation_numbers AS bigint MAXVALUE 2251799813685246;

CREATE TABLE conversations (
    -- The two low bits repeat the kind (0 dm_, 1 group_, 2 room_), so the text form needs no lookup.
    id           bigint            PRIMARY KEY,
    kind         conversation_kind NOT NULL,
    name         text              CHECK (char_length(name) BETWEEN 1 AND 100),
    description  text              CHECK (char_length(description) <= 1000),
    owner_id     bigint            REFERENCES users,
    direct_low   bigint            REFERENCES users,
    direct_high  bigint            REFERENCES users,
    last_seq     bigint            NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
    -- The ordinal of the newest message; see messages.
    last_ordinal bigint            NOT NULL DEFAULT 0,
    archived_at  timestamptz,
    created_at   timestamptz       NOT NULL DEFAULT now(),
    slow_mode_s  integer           NOT NULL DEFAULT 0 CHECK (slow_mode_s BETWEEN 0 AND 21600),
    member_limit integer           CHECK (member_limit BETWEEN 1 AND 1000000),
    CHECK (id > 0 AND id & 3 = CASE kind WHEN 'direct' THEN 0 WHEN 'group' THEN 1 ELSE 2 END),
    CHECK ((kind = 'direct') = (direct_low IS NOT NULL AND direct_high IS NOT NULL)),
    CHECK (direct_low < direct_high),
    CHECK (kind <> 'direct' OR (name IS NULL AND owner_id IS NULL)),
    CHECK (kind NOT IN ('public_room', 'private_room') OR name IS NOT NULL),
    CHECK (kind <> 'direct' OR (slow_mode_s = 0 AND member_limit IS NULL AND archived_at IS NULL))
) WITH (fillfactor = 70); -- every batch updates last_seq; room on the page keeps those updates HOT
CREATE UNIQUE INDEX conversations_direct_key ON conversations (direct_low, direct_high) WHERE kind = 'direct';
CREATE INDEX conversations_public ON conversations (id) WHERE kind = 'public_room' AND archived_at IS NULL;

CREATE TABLE conversation_members (
    conversation_id bigint      NOT NULL REFERENCES conversations ON DELETE CASCADE,
    user_id         bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    role            member_role NOT NULL DEFAULT 'member',
    joined_at       timestamptz NOT NULL DEFAULT now(),
    joined_seq      bigint      NOT NULL DEFAULT 0,
    read_seq        bigint      NOT NULL DEFAULT 0 CHECK (read_seq >= 0),
    muted_until     timestamptz,
    -- The version of the member's profile that is in this conversation's log.
    profile_version bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (conversation_id, user_id)
) WITH (fillfactor = 80);
CREATE INDEX conversation_members_by_user ON conversation_members (user_id, conversation_id);
-- Finds the moderators of a room without reading all of its members.
CREATE INDEX conversation_members_moderating ON conversation_members (conversation_id, role) WHERE role >= 'moderator';

CREATE TABLE conversation_bans (
    conversation_id bigint      NOT NULL REFERENCES conversations ON DELETE CASCADE,
    user_id         bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    banned_by       bigint      REFERENCES users ON DELETE SET NULL,
    reason          text        CHECK (char_length(reason) <= 500),
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, user_id)
);

-- The mute and the read-only role of a member who has left. They apply again when the user rejoins.
CREATE TABLE conversation_restrictions (
    conversation_id bigint      NOT NULL REFERENCES conversations ON DELETE CASCADE,
    user_id         bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    role            member_role NOT NULL CHECK (role <= 'member'),
    muted_until     timestamptz,
    PRIMARY KEY (conversation_id, user_id)
);

CREATE TABLE conversation_invites (
    code            text        PRIMARY KEY
                                DEFAULT translate(encode(uuid_send(gen_random_uuid()), 'base64'), '+/=', '-_'),
    -- A repeat of the mutation that created it finds it by this.
    mutation_id     bigint      NOT NULL UNIQUE,
    conversation_id bigint      NOT NULL REFERENCES conversations ON DELETE CASCADE,
    created_by      bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    max_uses        integer     CHECK (max_uses > 0),
    uses            integer     NOT NULL DEFAULT 0,
    expires_at      timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX conversation_invites_by_conversation ON conversation_invites (conversation_id, created_at);

-- Requests to join a private room. A request is between the user and the moderators, and in no log. It is deleted once
-- it is decided or withdrawn, and when the user joins by other means or is banned.
CREATE TABLE conversation_join_requests (
    conversation_id bigint      NOT NULL REFERENCES conversations ON DELETE CASCADE,
    user_id         bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    text            text        CHECK (char_length(text) <= 500),
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, user_id)
);
CREATE INDEX conversation_join_requests_by_user ON conversation_join_requests (user_id, conversation_id);

-- Counters apart from conversations: the triggers add to them once per statement, whatever the number of rows.
CREATE TABLE conversation_statistics (
    conversation_id bigint      PRIMARY KEY REFERENCES conversations ON DELETE CASCADE,
    message_count   bigint      NOT NULL DEFAULT 0,
    member_count    bigint      NOT NULL DEFAULT 0,
    last_message_at timestamptz
) WITH (fillfactor = 70);

-- Every mutation that is not a message. An event stores what the mutation did and never the text of a message: texts
-- are in messages and message_edits only, so a deletion removes them everywhere at once.
CREATE TABLE conversation_events (
    conversation_id bigint      NOT NULL,
    seq             bigint      NOT NULL,
    kind            text        NOT NULL,
    actor_id        bigint      NOT NULL,
    payload         jsonb       NOT NULL,
    -- The server's own idempotency key: after a connection was lost during COMMIT, the server submits the same mutation
    -- again and finds its first result here.
    mutation_id     bigint      NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, seq)
);
CREATE INDEX conversation_events_by_mutation ON conversation_events (mutation_id);

-- What each mutation did, for as long as it may be submitted again: a second execution could undo what came after the
-- first. Texts are not kept here; the server submits them again. A sweep deletes rows after a day, and keeps only the
-- newest 100,000.
CREATE TABLE mutation_outcomes (
    mutation_id bigint      PRIMARY KEY,
    actor_id    bigint      NOT NULL,
    outcome     jsonb       NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX mutation_outcomes_by_age ON mutation_outcomes (created_at);
