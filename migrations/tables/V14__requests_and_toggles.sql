-- Requests to join that no room has received, and the budget of changes that a user can repeat without end.

-- A request to join a room that does not exist, is archived, or has too many requests. Only its user sees it: the list
-- of the user's own requests must not tell whether a private room exists. No foreign key to conversations, therefore.
CREATE TABLE unheard_requests (
    user_id         bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    conversation_id bigint      NOT NULL,
    text            text        CHECK (char_length(text) <= 500),
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, conversation_id)
);

-- How many changes of an hour were made that can be undone and made again (rules/charge_toggle.sql).
CREATE TABLE toggle_budgets (
    user_id  bigint      PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    began_at timestamptz NOT NULL DEFAULT now(),
    used     bigint      NOT NULL DEFAULT 1
);
CREATE INDEX toggle_budgets_by_time ON toggle_budgets (began_at);

-- For the sweep.
CREATE INDEX stranger_additions_by_time ON stranger_additions (created_at);
-- Whether any account still has a hash of an older version: see control/auth.rs.
CREATE INDEX credentials_by_old_hash ON credentials (user_id) WHERE password_hash LIKE '$2%';

ALTER TABLE unheard_requests ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE toggle_budgets ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT ON unheard_requests TO chat_app;
GRANT SELECT, INSERT, DELETE ON unheard_requests, toggle_budgets TO chat_writer;
GRANT UPDATE (text) ON unheard_requests TO chat_writer;
GRANT UPDATE (began_at, used) ON toggle_budgets TO chat_writer;
CREATE POLICY app_reads ON unheard_requests FOR SELECT TO chat_app USING (user_id = app_user_id());
CREATE POLICY writer_asks ON unheard_requests TO chat_writer USING (true) WITH CHECK (conversation_id & 3 = 2);
CREATE POLICY writer_counts ON toggle_budgets TO chat_writer USING (true) WITH CHECK (true);
