-- Consent: who may add a user to groups and rooms at once, and the invitations that wait for the user's decision.

-- 'everyone': strangers too, within the budget of rules/addable_users.sql. 'contacts': users whom the user knows from a
-- conversation. 'nobody': every addition waits for the user's decision.
ALTER TABLE users ADD COLUMN group_invitations text NOT NULL DEFAULT 'everyone'
    CHECK (group_invitations IN ('everyone', 'contacts', 'nobody'));

-- Additions of the last hour, which the budget counts. Older rows are deleted when their user is added again.
CREATE TABLE stranger_additions (
    user_id    bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    added_by   bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX stranger_additions_by_user ON stranger_additions (user_id, created_at);
CREATE INDEX stranger_additions_by_inviter ON stranger_additions (added_by, created_at);

-- An invitation is between the two users, and in no log. It is deleted once it is accepted or declined, and when the
-- user joins by other means.
CREATE TABLE conversation_invitations (
    conversation_id bigint      NOT NULL REFERENCES conversations ON DELETE CASCADE,
    user_id         bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    invited_by      bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, user_id)
);
CREATE INDEX conversation_invitations_by_user ON conversation_invitations (user_id, created_at);

ALTER TABLE stranger_additions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE conversation_invitations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT ON conversation_invitations TO chat_app;
GRANT SELECT, INSERT, DELETE ON stranger_additions, conversation_invitations TO chat_writer;
CREATE POLICY app_reads ON conversation_invitations FOR SELECT TO chat_app USING (user_id = app_user_id());
CREATE POLICY writer_counts ON stranger_additions TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_invites ON conversation_invitations TO chat_writer USING (true) WITH CHECK (EXISTS (
    SELECT FROM conversation_members m
     WHERE m.conversation_id = conversation_invitations.conversation_id
       AND m.user_id = conversation_invitations.invited_by));
CREATE POLICY owner_resolves_invitations ON conversation_invitations FOR SELECT TO chat_owner USING (true);
