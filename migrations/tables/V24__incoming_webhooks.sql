-- Bots, and incoming webhooks: addresses to which a program posts messages of a bot, without signing in.
--
-- A bot is a user without credentials, so nobody can sign in as one. It is a member of conversations as any other user,
-- and what it may do there follows from its role.

CREATE TABLE bots (
    user_id    bigint      PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    -- Who made it.
    owner_id   bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX bots_by_owner ON bots (owner_id);

CREATE TABLE incoming_webhooks (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    conversation_id bigint      NOT NULL REFERENCES conversations ON DELETE CASCADE,
    -- Who posts.
    bot_id          bigint      NOT NULL REFERENCES bots ON DELETE CASCADE,
    -- The token itself is in no table.
    token_hash      bytea       NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    created_at      timestamptz NOT NULL DEFAULT now(),
    last_used_at    timestamptz
);
CREATE INDEX incoming_webhooks_by_conversation ON incoming_webhooks (conversation_id, id);
CREATE INDEX incoming_webhooks_by_bot ON incoming_webhooks (bot_id);

ALTER TABLE bots ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE incoming_webhooks ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, DELETE ON bots, incoming_webhooks TO chat_writer;
GRANT UPDATE (token_hash, last_used_at) ON incoming_webhooks TO chat_writer;
CREATE POLICY writer_manages ON bots TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_manages ON incoming_webhooks TO chat_writer USING (true) WITH CHECK (true);
