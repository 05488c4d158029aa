-- Bots that programs sign in as: tokens, and slash commands.
--
-- A token is a session, so that every rule for sessions holds for it: a revocation closes its connections on all nodes
-- within a second. bot_tokens has what only tokens have.
--
-- Invariants:
-- - the session of a bot is valid only while it has a row of bot_tokens that has not expired. Without this, a session
--   whose row is missing would count as one of a person, without any scope;
-- - the token itself is in no table.

-- Shown beside the name. Everything that shows a user reads it here, so that no message needs another look-up.
ALTER TABLE users ADD COLUMN is_bot boolean NOT NULL DEFAULT false;
ALTER TABLE users NO FORCE ROW LEVEL SECURITY;
ALTER TABLE bots NO FORCE ROW LEVEL SECURITY;
UPDATE users u SET is_bot = true FROM bots b WHERE b.user_id = u.id;
ALTER TABLE users FORCE ROW LEVEL SECURITY;
ALTER TABLE bots FORCE ROW LEVEL SECURITY;

-- Whether its owner manages it with /bots. The others belong to incoming webhooks.
ALTER TABLE bots ADD COLUMN is_managed boolean NOT NULL DEFAULT false;
-- The secret that signs the requests of its slash commands, encrypted.
ALTER TABLE bots ADD COLUMN key_id text, ADD COLUMN sealed bytea, ADD CHECK ((key_id IS NULL) = (sealed IS NULL));

CREATE TABLE bot_tokens (
    session_id       bigint      PRIMARY KEY REFERENCES sessions ON DELETE CASCADE,
    bot_id           bigint      NOT NULL REFERENCES bots ON DELETE CASCADE,
    name             text        NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    token_hash       bytea       NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    scopes           text[]      NOT NULL CHECK (
        cardinality(scopes) > 0 AND scopes <@ '{read,write,manage,files}'),
    -- Where it may be used; empty means every conversation of the bot.
    conversation_ids bigint[]    NOT NULL DEFAULT '{}' CHECK (cardinality(conversation_ids) <= 100),
    created_at       timestamptz NOT NULL DEFAULT now(),
    expires_at       timestamptz NOT NULL,
    -- To the minute.
    last_used_at     timestamptz
);
CREATE INDEX bot_tokens_by_bot ON bot_tokens (bot_id, session_id);

CREATE TABLE bot_commands (
    bot_id      bigint NOT NULL REFERENCES bots ON DELETE CASCADE,
    name        text   NOT NULL CHECK (name ~ '^[a-z0-9_-]{1,32}$'),
    position    int    NOT NULL,
    description text   NOT NULL CHECK (char_length(description) BETWEEN 1 AND 200),
    usage       text   CHECK (char_length(usage) BETWEEN 1 AND 200),
    -- Where an invocation is posted while no connection of the bot can receive it.
    url         text   CHECK (octet_length(url) BETWEEN 8 AND 2000),
    -- Shards know this much of it.
    has_url     boolean GENERATED ALWAYS AS (url IS NOT NULL) STORED,
    PRIMARY KEY (bot_id, name)
);
CREATE INDEX bot_commands_by_name ON bot_commands (name, bot_id);

ALTER TABLE bot_tokens ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE bot_commands ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

GRANT UPDATE (key_id, sealed) ON bots TO chat_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON bot_tokens, bot_commands TO chat_writer;
CREATE POLICY writer_manages ON bot_tokens TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_manages ON bot_commands TO chat_writer USING (true) WITH CHECK (true);

-- A shard looks up the token of a new WebSocket, and notes its use.
GRANT SELECT (session_id, bot_id, token_hash, scopes, conversation_ids, expires_at, last_used_at) ON bot_tokens
    TO chat_app;
GRANT UPDATE (last_used_at) ON bot_tokens TO chat_app;
CREATE POLICY app_reads ON bot_tokens FOR SELECT TO chat_app USING (bot_id = app_user_id());
CREATE POLICY app_notes_use ON bot_tokens FOR UPDATE TO chat_app USING (bot_id = app_user_id())
    WITH CHECK (bot_id = app_user_id());
-- The owner, who must be active; and for slash commands, who answers them.
GRANT SELECT (user_id, owner_id) ON bots TO chat_app;
CREATE POLICY app_reads ON bots FOR SELECT TO chat_app USING (app_user_id() IS NOT NULL);
GRANT SELECT (bot_id, name, position, description, usage, has_url) ON bot_commands TO chat_app;
CREATE POLICY app_reads ON bot_commands FOR SELECT TO chat_app USING (app_user_id() IS NOT NULL);
