-- Files, their content, and jobs.
--
-- A file belongs to one conversation and one uploader. Its content is a blob, found by its SHA-256; files with the same
-- content share it. Messages refer to files; a file that no message refers to any longer goes at once, and its blob
-- with the last file that has it.
--
-- Invariant: a blob's name in the store has its number, and no number is ever used again. So a removal that comes late
-- cannot remove content that somebody has stored since, and no lock is held while the store works.

CREATE TYPE file_state AS ENUM ('uploading', 'scanning', 'ready', 'infected', 'failed', 'expired');

CREATE SEQUENCE file_ids AS bigint MAXVALUE 9007199254740991;

CREATE TABLE files (
    id              bigint      PRIMARY KEY DEFAULT nextval('file_ids'),
    conversation_id bigint      NOT NULL REFERENCES conversations,
    uploader_id     bigint      NOT NULL REFERENCES users,
    -- What people see; the name in the store is another one.
    name            text        NOT NULL CHECK (char_length(name) BETWEEN 1 AND 255),
    size            bigint      NOT NULL CHECK (size >= 0),
    -- Bytes of its variants, which count too.
    extra           bigint      NOT NULL DEFAULT 0 CHECK (extra >= 0),
    -- Bytes that are durable: they survive a crash.
    received        bigint      NOT NULL DEFAULT 0 CHECK (received BETWEEN 0 AND size),
    -- The type that the uploader gave, and the one that was found.
    declared_type   text        CHECK (char_length(declared_type) <= 100),
    media_type      text        CHECK (char_length(media_type) <= 100),
    -- Of a picture or a film; what stands in for a picture until it is there (blurha.sh); whether it moves.
    width           integer     CHECK (width > 0),
    height          integer     CHECK (height > 0),
    blurhash        text        CHECK (char_length(blurhash) <= 100),
    animated        boolean     NOT NULL DEFAULT false,
    -- Seconds of sound or film.
    duration        double precision CHECK (duration >= 0),
    -- What the uploader says that the content is, and what readers get.
    expected_sha256 bytea       CHECK (octet_length(expected_sha256) = 32),
    sha256          bytea       CHECK (octet_length(sha256) = 32),
    state           file_state  NOT NULL DEFAULT 'uploading',
    -- Why it failed, for its uploader.
    reason          text        CHECK (char_length(reason) <= 500),
    created_at      timestamptz NOT NULL DEFAULT now(),
    -- When it goes; never while a message refers to it.
    expires_at      timestamptz NOT NULL,
    CHECK ((state = 'ready') <= (sha256 IS NOT NULL AND media_type IS NOT NULL))
);
CREATE INDEX files_by_uploader ON files (uploader_id, created_at);
CREATE INDEX files_by_conversation ON files (conversation_id, id);
CREATE INDEX files_by_content ON files (sha256) WHERE sha256 IS NOT NULL;
CREATE INDEX files_by_expiry ON files (expires_at);

CREATE TABLE message_files (
    message_id      bigint   NOT NULL,
    position        smallint NOT NULL,
    conversation_id bigint   NOT NULL,
    file_id         bigint   NOT NULL REFERENCES files,
    PRIMARY KEY (message_id, position)
);
CREATE INDEX message_files_by_file ON message_files (file_id);

-- What was made of a file's content: smaller pictures, and the original where readers get another one.
CREATE TABLE file_variants (
    file_id    bigint  NOT NULL,
    kind       text    NOT NULL CHECK (char_length(kind) BETWEEN 1 AND 20),
    sha256     bytea   NOT NULL CHECK (octet_length(sha256) = 32),
    size       bigint  NOT NULL CHECK (size >= 0),
    media_type text    NOT NULL CHECK (char_length(media_type) <= 100),
    width      integer CHECK (width > 0),
    height     integer CHECK (height > 0),
    PRIMARY KEY (file_id, kind)
);
CREATE INDEX file_variants_by_content ON file_variants (sha256);

-- Public links to files, for people without an account. The token itself is in no table.
CREATE TABLE file_shares (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    file_id    bigint      NOT NULL,
    -- Who made it. It ends when that user may not read the file any longer.
    user_id    bigint      NOT NULL,
    token_hash bytea       NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX file_shares_by_file ON file_shares (file_id);

-- Content in the store.
CREATE TABLE blobs (
    sha256     bytea       PRIMARY KEY CHECK (octet_length(sha256) = 32),
    number     bigint      GENERATED ALWAYS AS IDENTITY UNIQUE,
    size       bigint      NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- What the files of a user take; user 0 is the whole server.
CREATE TABLE file_usage (
    user_id    bigint      PRIMARY KEY,
    bytes      bigint      NOT NULL DEFAULT 0,
    files      bigint      NOT NULL DEFAULT 0,
    -- Uploads that began since then. A deletion does not undo them.
    hour_began timestamptz NOT NULL DEFAULT now(),
    hour_count bigint      NOT NULL DEFAULT 0
);

-- Work that outlives a restart. A process that takes a job holds a lease; when that ends, another one takes the job.
CREATE TABLE jobs (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         text        NOT NULL CHECK (char_length(kind) BETWEEN 1 AND 40),
    -- What it is about. There is one job of a kind and a subject.
    subject      text        NOT NULL CHECK (char_length(subject) BETWEEN 1 AND 200),
    attempts     integer     NOT NULL DEFAULT 0,
    next_at      timestamptz NOT NULL DEFAULT now(),
    leased_until timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_error   text        CHECK (char_length(last_error) <= 500),
    UNIQUE (kind, subject)
);
CREATE INDEX jobs_by_time ON jobs (next_at);

-- Texts that wait for a moderator keep their files, and the search finds names of files and knows pictures.
ALTER TABLE held_messages ADD COLUMN files bigint[] NOT NULL DEFAULT '{}';
ALTER TABLE message_search ADD COLUMN has_image boolean NOT NULL DEFAULT false;

ALTER TABLE files ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE message_files ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE file_variants ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE file_shares ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE blobs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE file_usage ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE jobs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

GRANT USAGE ON SEQUENCE file_ids TO chat_writer;
GRANT SELECT, INSERT, DELETE ON files, message_files, file_variants, file_shares, blobs, jobs TO chat_writer;
GRANT UPDATE (size, extra, received, media_type, width, height, blurhash, animated, duration, sha256, state, reason,
    expires_at) ON files TO chat_writer;
GRANT UPDATE (attempts, next_at, leased_until, last_error) ON jobs TO chat_writer;
GRANT UPDATE (created_at) ON blobs TO chat_writer;
GRANT SELECT, INSERT, UPDATE ON file_usage TO chat_writer;
GRANT SELECT ON files, message_files, file_variants TO chat_app;

CREATE POLICY app_reads ON files FOR SELECT TO chat_app USING (conversation_id IN (SELECT app_conversations()));
CREATE POLICY app_reads ON message_files FOR SELECT TO chat_app
    USING (conversation_id IN (SELECT app_conversations()));
CREATE POLICY app_reads ON file_variants FOR SELECT TO chat_app
    USING (EXISTS (SELECT FROM files f WHERE f.id = file_variants.file_id));
CREATE POLICY owner_indexes ON files FOR SELECT TO chat_owner USING (true);
CREATE POLICY owner_indexes ON message_files FOR SELECT TO chat_owner USING (true);
CREATE POLICY writer_looks_up ON files FOR SELECT TO chat_writer USING (true);
CREATE POLICY writer_changes ON files FOR UPDATE TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_removes ON files FOR DELETE TO chat_writer USING (true);
CREATE POLICY writer_uploads ON files FOR INSERT TO chat_writer WITH CHECK (state = 'uploading' AND EXISTS (
    SELECT FROM conversation_members m
     WHERE m.conversation_id = files.conversation_id AND m.user_id = files.uploader_id AND m.role > 'read_only'));
CREATE POLICY writer_looks_up ON message_files FOR SELECT TO chat_writer USING (true);
CREATE POLICY writer_removes ON message_files FOR DELETE TO chat_writer USING (true);
CREATE POLICY writer_attaches ON message_files FOR INSERT TO chat_writer WITH CHECK (EXISTS (
    SELECT FROM files f
     WHERE f.id = message_files.file_id AND f.conversation_id = message_files.conversation_id
       AND f.state IN ('scanning', 'ready')));
CREATE POLICY writer_makes ON file_variants TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_shares ON file_shares TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_stores ON blobs TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_counts ON file_usage TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_works ON jobs TO chat_writer USING (true) WITH CHECK (true);

CREATE TRIGGER refuse_without_rules BEFORE INSERT OR UPDATE OR DELETE ON files FOR EACH STATEMENT
    WHEN (to_regnamespace(nullif(current_setting('app.rules', true), '')) IS NULL)
    EXECUTE FUNCTION refuse_without_rules();
