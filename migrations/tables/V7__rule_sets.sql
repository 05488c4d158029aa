-- The installed rule sets: one schema each, named by a hash of the set's files (migrations/functions).
--
-- Every process with that set touches last_used_at at its start and hourly. A set that no process has used for a day is
-- dropped. The row is written in the transaction that installs the set, and deleted in the one that drops it.

CREATE TABLE rule_sets (
    name         text        PRIMARY KEY CHECK (name ~ '^rules_[0-9a-f]{12}$'),
    -- The version of the server that installed it.
    version      text        NOT NULL,
    -- Path → SHA-256 of the text; `chat-server migrate --plan` compares them.
    files        jsonb       NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE rule_sets ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_keeps ON rule_sets TO chat_owner USING (true) WITH CHECK (true);
