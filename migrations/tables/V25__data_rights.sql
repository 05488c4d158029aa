-- Data rights: erasure, export, retention and legal holds; docs/data-rights.md explains them.
--
-- src/storage/sql/data_rights/catalogue.rs says of every column whether it has personal data, and what becomes of it.

-- A person who was erased keeps the row of the account, without anything personal: the log names its number.
ALTER TABLE users ADD COLUMN erased_at timestamptz;

-- What was asked for, and how far it is. A row stays for good, as the proof and so that no restored backup brings the
-- person back. It names the account by number and time of registration: a restored database may give the number again.
CREATE TABLE erasures (
    -- Random, and secret: who has it can read the state and the receipt.
    id                 text        PRIMARY KEY CHECK (id ~ '^[0-9a-f]{32}$'),
    user_id            bigint      NOT NULL UNIQUE,
    account_created_at timestamptz NOT NULL,
    -- The person, or an administrator.
    requested_by       bigint      NOT NULL,
    requested_at       timestamptz NOT NULL DEFAULT now(),
    -- The name that texts of others mention, until these are changed.
    username           text,
    -- The conversation and the seq up to which the log has been searched.
    conversation_id    bigint      NOT NULL DEFAULT 0,
    seq                bigint      NOT NULL DEFAULT 0,
    -- How many rows of each kind: {messages, mentions, reactions, files, …}.
    counts             jsonb       NOT NULL DEFAULT '{}',
    completed_at       timestamptz,
    -- For a bot, the erasure of the person whom it belongs to. Its messages stay: they are about the conversation.
    part_of            text        REFERENCES erasures,
    -- A signed note, see src/audit/note.rs.
    receipt            text,
    CHECK ((completed_at IS NULL) = (receipt IS NULL)),
    CHECK (completed_at IS NULL OR username IS NULL)
);
CREATE INDEX erasures_by_name ON erasures (lower(username)) WHERE username IS NOT NULL;
CREATE INDEX erasures_parts ON erasures (part_of) WHERE part_of IS NOT NULL;

-- What must be kept for a court: neither retention nor an erasure removes it until the hold is released.
CREATE TABLE legal_holds (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Either one.
    user_id         bigint      REFERENCES users,
    conversation_id bigint      REFERENCES conversations,
    reason          text        NOT NULL CHECK (char_length(reason) BETWEEN 1 AND 500),
    created_by      bigint      NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    released_by     bigint,
    released_at     timestamptz,
    CHECK ((user_id IS NULL) <> (conversation_id IS NULL)),
    CHECK ((released_by IS NULL) = (released_at IS NULL))
);
CREATE UNIQUE INDEX legal_holds_of_user ON legal_holds (user_id) WHERE released_at IS NULL;
CREATE UNIQUE INDEX legal_holds_of_conversation ON legal_holds (conversation_id) WHERE released_at IS NULL;

-- Copies of a person's data that the person has asked for. The archive is content in the store of files.
CREATE TABLE data_exports (
    id           text        PRIMARY KEY CHECK (id ~ '^[0-9a-f]{32}$'),
    user_id      bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    requested_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    -- Of the archive. A foreign key: a server of an earlier version cannot remove content that a copy needs.
    sha256       bytea       REFERENCES blobs CHECK (octet_length(sha256) = 32),
    size         bigint      CHECK (size >= 0),
    -- When the row goes, and the archive with it. A newer copy replaces the archive before that.
    expires_at   timestamptz,
    CHECK ((sha256 IS NULL) = (size IS NULL)),
    CHECK (sha256 IS NULL OR completed_at IS NOT NULL),
    CHECK ((completed_at IS NULL) = (expires_at IS NULL))
);
CREATE INDEX data_exports_by_user ON data_exports (user_id, requested_at);
CREATE INDEX data_exports_by_content ON data_exports (sha256) WHERE sha256 IS NOT NULL;
CREATE INDEX data_exports_by_expiry ON data_exports (expires_at) WHERE expires_at IS NOT NULL;

-- Messages that are older go; null is the server's own setting. The history begins behind cleared_seq.
ALTER TABLE conversations ADD COLUMN retention_days integer CHECK (retention_days BETWEEN 1 AND 36500);
CREATE INDEX conversations_with_retention ON conversations (id) WHERE retention_days IS NOT NULL;
ALTER TABLE conversations ADD COLUMN cleared_seq bigint NOT NULL DEFAULT 0 CHECK (cleared_seq >= 0);
GRANT UPDATE (retention_days, cleared_seq) ON conversations TO chat_writer;

ALTER TABLE erasures ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE legal_holds ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE data_exports ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT ON erasures TO chat_writer;
GRANT UPDATE (username, conversation_id, seq, counts, completed_at, receipt) ON erasures TO chat_writer;
GRANT SELECT, INSERT ON legal_holds TO chat_writer;
GRANT UPDATE (released_by, released_at) ON legal_holds TO chat_writer;
GRANT SELECT, INSERT, DELETE ON data_exports TO chat_writer;
GRANT UPDATE (completed_at, sha256, size, expires_at) ON data_exports TO chat_writer;
CREATE POLICY writer_erases ON erasures TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_holds ON legal_holds TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY owner_rewrites_texts ON erasures FOR SELECT TO chat_owner USING (true); -- erased_text
CREATE POLICY writer_exports ON data_exports TO chat_writer USING (true) WITH CHECK (true);
GRANT UPDATE (client_message_id) ON messages TO chat_writer;

-- The jobs of data rights read and clear tables that nobody else may, such as security events and the texts of events.
-- They run as the owner, in transactions that say so.
-- In `public`, because policies bind to one function, whatever set the session runs with.
CREATE FUNCTION serves_data_rights() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS
    $$ SELECT current_setting('app.data_rights', true) IS NOT DISTINCT FROM 'on' $$;
CREATE POLICY owner_serves_data_rights ON account_responses TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON backup_codes TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON blobs TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON bots TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON conversation_bans TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON conversation_events TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON conversation_invitations TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON conversation_invites TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON conversation_join_requests TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON conversation_members TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON conversation_restrictions TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON conversation_statistics TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON conversations TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON credentials TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON data_exports TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON erasures TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON file_shares TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON file_usage TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON file_variants TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON files TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON filter_hits TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON held_messages TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON import_ids TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON incoming_webhooks TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON jobs TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON legal_holds TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON message_edits TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON message_files TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON message_mentions TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON message_pins TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON message_reactions TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON message_search TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON messages TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON mutation_outcomes TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON refresh_tokens TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON security_events TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON sessions TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON sign_in_challenges TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON spent_tickets TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON stranger_additions TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON thread_followers TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON thread_statistics TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON toggle_budgets TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON two_factor TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON unheard_requests TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON user_avatars TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON user_blocks TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON users TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON webhook_cursors TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON webhook_deliveries TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON webhooks TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
