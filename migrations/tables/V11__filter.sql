-- The content filter: the rules, the texts that moderators decide about, and the latest matches.
--
-- The control plane reads and writes the rules and the queue as chat_writer, like accounts: administrators decide about
-- texts of conversations that they are not members of, so chat_app's policies cannot serve them. Therefore chat_writer
-- may read the text of a held message, which nobody but its author has seen. It still cannot read sent messages.

CREATE SEQUENCE filter_versions AS bigint;

-- The server loads all rules when the newest version or their number changes. Each PUT replaces a scope's rules.
CREATE TABLE filter_rules (
    -- The order in which they are listed.
    position        integer     NOT NULL,
    id              text        NOT NULL CHECK (id ~ '^[a-z0-9_-]{1,64}$'),
    -- None for a rule of the server.
    conversation_id bigint      REFERENCES conversations ON DELETE CASCADE,
    kind            text        NOT NULL CHECK (char_length(kind) BETWEEN 1 AND 40),
    definition      jsonb       NOT NULL CHECK (jsonb_typeof(definition) = 'object'),
    action          text        NOT NULL CHECK (action IN ('flag', 'hold', 'refuse', 'slow', 'mute')),
    dry_run         boolean     NOT NULL DEFAULT false,
    enabled         boolean     NOT NULL DEFAULT true,
    exempt_from     member_role,
    mute_s          bigint      CHECK (mute_s BETWEEN 1 AND 31622400),
    version         bigint      NOT NULL DEFAULT nextval('filter_versions')
);
CREATE UNIQUE INDEX filter_rules_key ON filter_rules (coalesce(conversation_id, 0), id);
CREATE INDEX filter_rules_by_version ON filter_rules (version);

-- Texts that a rule held or flagged. A held text becomes a message when a moderator approves it.
CREATE TABLE held_messages (
    id                   bigint       GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    conversation_id      bigint       NOT NULL REFERENCES conversations ON DELETE CASCADE,
    sender_id            bigint       NOT NULL REFERENCES users ON DELETE CASCADE,
    -- The key under which it is sent: the message is stored once, however often it is approved.
    client_message_id    text         NOT NULL,
    content              text         NOT NULL,
    message_type         message_type NOT NULL,
    parent_message_id    bigint,
    -- For an edit, the message with the old text.
    edited_message_id    bigint,
    rule                 text         NOT NULL,
    -- Whether it is a rule of the server, about which administrators decide too.
    is_server_rule       boolean      NOT NULL,
    state                text         NOT NULL CHECK (state IN ('held', 'flagged', 'approved', 'rejected')),
    created_at           timestamptz  NOT NULL DEFAULT now(),
    decided_by           bigint       REFERENCES users ON DELETE SET NULL,
    decided_at           timestamptz,
    -- An approved text has been sent.
    sent                 boolean      NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX held_messages_key ON held_messages (conversation_id, sender_id, client_message_id);
CREATE INDEX held_messages_open ON held_messages (conversation_id, id) WHERE state IN ('held', 'flagged');
CREATE INDEX held_messages_by_time ON held_messages (created_at);

-- One row per match that was acted upon, for a day: who tries to get around the filter shows here.
CREATE TABLE filter_hits (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- None at a registration.
    user_id         bigint      REFERENCES users ON DELETE CASCADE,
    conversation_id bigint,
    rule            text        NOT NULL,
    action          text        NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX filter_hits_by_user ON filter_hits (user_id, created_at);
CREATE INDEX filter_hits_by_time ON filter_hits (created_at);

-- The rules of a new server. They refuse what no reader can want, and no ordinary text. (Before row level security is
-- forced, which keeps the owner out.)
INSERT INTO filter_rules (position, id, kind, definition, action) VALUES
    (0, 'invisible-text', 'invisible', '{"overrides": false}', 'refuse'),
    (1, 'piled-marks', 'zalgo', '{"marks_max": 8}', 'flag'),
    (2, 'mention-flood', 'mentions', '{"max": 50}', 'flag'),
    (3, 'lookalike-names', 'lookalike_names', '{"protected": ["admin", "administrator", "moderator", "support"]}',
     'refuse'),
    (4, 'lookalike-domains', 'links', '{"block": [], "allow": [], "only_allowed": false, "lookalikes": true}', 'flag');
INSERT INTO filter_rules (position, id, kind, definition, action, enabled) VALUES
    (5, 'repeats-across-rooms', 'repeats', '{"count": 6, "conversations": 4, "within_s": 600}', 'slow', false);

ALTER TABLE filter_rules ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE held_messages ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE filter_hits ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

GRANT USAGE ON SEQUENCE filter_versions TO chat_writer;
GRANT SELECT, INSERT, DELETE ON filter_rules, filter_hits TO chat_writer;
GRANT SELECT, INSERT, DELETE ON held_messages TO chat_writer;
GRANT UPDATE (state, decided_by, decided_at, sent) ON held_messages TO chat_writer;

CREATE POLICY writer_rules ON filter_rules TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_counts ON filter_hits TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_decides ON held_messages FOR UPDATE TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_lists ON held_messages FOR SELECT TO chat_writer USING (true);
CREATE POLICY writer_sweeps ON held_messages FOR DELETE TO chat_writer USING (state <> 'held');
CREATE POLICY writer_holds ON held_messages FOR INSERT TO chat_writer WITH CHECK (EXISTS (
    SELECT FROM conversation_members m
     WHERE m.conversation_id = held_messages.conversation_id AND m.user_id = held_messages.sender_id));
