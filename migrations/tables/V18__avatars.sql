-- Pictures of users that were uploaded. Their content is a blob, as that of files; docs/files.md describes them.
--
-- A row is the picture that its user shows: users.avatar_url has the same address. A picture from another server has no
-- row. The address ends with random letters, so that nobody can guess it.

CREATE TABLE user_avatars (
    user_id    bigint      PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    url        text        NOT NULL UNIQUE CHECK (char_length(url) <= 100),
    -- A foreign key: a server of an earlier version cannot remove content that a picture needs.
    sha256     bytea       NOT NULL REFERENCES blobs,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX user_avatars_by_content ON user_avatars (sha256);

ALTER TABLE user_avatars ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, DELETE ON user_avatars TO chat_writer;
GRANT UPDATE (url, sha256, created_at) ON user_avatars TO chat_writer;
CREATE POLICY writer_shows ON user_avatars TO chat_writer USING (true) WITH CHECK (true);
