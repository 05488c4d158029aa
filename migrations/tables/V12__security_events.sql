-- What looks like an attack, found by the detectors in src/audit/suspicion; docs/security-events.md explains them.

CREATE TABLE security_events (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    severity     text        NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    event_type   text        NOT NULL,
    -- Who acted, or whose account is attacked. No foreign key: rows outlive accounts.
    user_id      bigint,
    session_id   bigint,
    ip_address   text,
    details      jsonb       NOT NULL DEFAULT '{}',
    -- How often it was found since created_at. One attack has one row for an hour.
    occurrences  bigint      NOT NULL DEFAULT 1,
    dedupe_key   text        NOT NULL
);
CREATE INDEX security_events_by_severity ON security_events (severity, created_at);
CREATE INDEX security_events_by_time ON security_events (created_at);
CREATE INDEX security_events_by_user ON security_events (user_id, created_at);
CREATE INDEX security_events_by_key ON security_events (dedupe_key, created_at);

-- The last row of the audit trail that the detectors have seen, so that a restart misses none.
CREATE TABLE security_progress (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    position bigint  NOT NULL DEFAULT 0
);
INSERT INTO security_progress DEFAULT VALUES;

ALTER TABLE security_events ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE security_progress ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, DELETE ON security_events TO chat_writer;
GRANT UPDATE (last_seen_at, occurrences) ON security_events TO chat_writer;
GRANT SELECT ON security_progress TO chat_writer;
GRANT UPDATE (position) ON security_progress TO chat_writer;
CREATE POLICY writer_looks_up ON security_events FOR SELECT TO chat_writer USING (true);
CREATE POLICY writer_finds ON security_events FOR INSERT TO chat_writer WITH CHECK (occurrences = 1);
CREATE POLICY writer_counts ON security_events FOR UPDATE TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_sweeps ON security_events FOR DELETE TO chat_writer
    USING (created_at < now() - interval '400 days');
CREATE POLICY writer_goes_on ON security_progress TO chat_writer USING (true) WITH CHECK (true);
