-- Automatic responses to security events: who is slowed down, muted or had to sign in again, until when, and because of
-- which event. docs/security-events.md explains them.

CREATE TABLE account_responses (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id   bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    response  text        NOT NULL CHECK (response IN ('slow_down', 'challenge', 'mute')),
    -- The type of the event.
    reason    text        NOT NULL,
    event_id  bigint      NOT NULL REFERENCES security_events ON DELETE CASCADE,
    begins_at timestamptz NOT NULL DEFAULT now(),
    -- In force until then. A challenge ends as it begins: the sessions are revoked once.
    ends_at   timestamptz NOT NULL,
    -- The administrator who ended it early.
    ended_by  bigint,
    CHECK (ends_at >= begins_at)
);
CREATE INDEX account_responses_by_end ON account_responses (ends_at);
CREATE INDEX account_responses_by_user ON account_responses (user_id, ends_at);
CREATE INDEX account_responses_by_event ON account_responses (event_id);

-- The end of the last mute among them: commit_messages reads the sender's row anyway.
ALTER TABLE users ADD COLUMN muted_until timestamptz;

ALTER TABLE account_responses ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT ON account_responses TO chat_writer;
GRANT UPDATE (ends_at, ended_by) ON account_responses TO chat_writer;
CREATE POLICY writer_looks_up ON account_responses FOR SELECT TO chat_writer USING (true);
CREATE POLICY writer_responds ON account_responses FOR INSERT TO chat_writer WITH CHECK (ended_by IS NULL);
CREATE POLICY writer_ends ON account_responses FOR UPDATE TO chat_writer USING (true) WITH CHECK (true);
