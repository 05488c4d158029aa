-- The audit trail: who did what to whom, when, from where; docs/audit.md explains it.
--
-- The rows form a hash chain. A row's hash covers the row before it and a commitment to the personal fields, not the
-- fields themselves: erasing a person clears the fields and leaves the chain as it is.
-- Only append_audit (migrations/functions/commit) inserts. No role but the owner has any right to these tables.

-- Partitions hold a month each (make_audit_partitions), so that retention drops whole tables. Positions rise with
-- created_at, so a partition holds a contiguous part of the chain.
CREATE TABLE audit_logs (
    -- 1, 2, 3 … without gaps. Taken under the lock of audit_head.
    position        bigint      NOT NULL CHECK (position > 0),
    created_at      timestamptz NOT NULL,
    -- Who acted; NULL for the server itself. No foreign key: rows outlive accounts.
    user_id         bigint,
    action          text        NOT NULL,
    target_type     text,
    target_id       bigint,
    conversation_id bigint,
    session_id      bigint,
    -- Personal fields. Without a salt they were erased.
    ip_address      text,
    device          text,
    reason          text,
    details         jsonb,
    salt            bytea,
    -- SHA-256 of the salt and the personal fields (audit_commitment).
    commitment      bytea       NOT NULL CHECK (octet_length(commitment) = 32),
    previous_hash   bytea       NOT NULL CHECK (octet_length(previous_hash) = 32),
    -- SHA-256 of the other fields, the commitment and previous_hash (audit_hash).
    hash            bytea       NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (position, created_at),
    CHECK (salt IS NOT NULL OR coalesce(ip_address, device, reason, details::text) IS NULL)
) PARTITION BY RANGE (created_at);
CREATE INDEX audit_logs_by_user ON audit_logs (user_id, created_at DESC, position DESC);
CREATE INDEX audit_logs_by_target ON audit_logs (target_type, target_id, position);
CREATE INDEX audit_logs_by_action ON audit_logs (action, position);
-- For a month without a partition of its own. No change may fail because a partition is missing.
CREATE TABLE audit_logs_default PARTITION OF audit_logs DEFAULT;

-- The end of the chain, one row. append_audit locks it until its transaction ends.
CREATE TABLE audit_head (
    only_row   boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    -- Names this chain in checkpoints, so that none fits another database.
    log_id     uuid        NOT NULL DEFAULT gen_random_uuid(),
    position   bigint      NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT '-infinity',
    hash       bytea       NOT NULL DEFAULT decode(repeat('00', 32), 'hex')
) WITH (fillfactor = 20); -- every append updates it; room on the page keeps those updates HOT
INSERT INTO audit_head DEFAULT VALUES;

-- Signed heads (C2SP tlog-checkpoint). A closing one says that the rows up to its size were dropped by retention.
CREATE TABLE audit_checkpoints (
    size       bigint      NOT NULL CHECK (size > 0),
    closing    boolean     NOT NULL,
    note       text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (size, closing)
);

ALTER TABLE audit_logs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE audit_logs_default ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE audit_head ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE audit_checkpoints ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_appends ON audit_logs TO chat_owner USING (true) WITH CHECK (true);
CREATE POLICY owner_appends ON audit_logs_default TO chat_owner USING (true) WITH CHECK (true);
CREATE POLICY owner_appends ON audit_head TO chat_owner USING (true) WITH CHECK (true);
CREATE POLICY owner_signs ON audit_checkpoints TO chat_owner USING (true) WITH CHECK (true);

-- Refuses every change and removal of a row, except those of erase_audit_person and make_audit_partitions. They
-- set app.audit_change for their transaction. This stops mistakes. `chat-server audit verify` finds what a superuser
-- does.
CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_permitted text := current_setting('app.audit_change', true);
    v_personal  text[] := '{ip_address,device,reason,details,salt}';
BEGIN
    IF TG_OP = 'UPDATE' AND v_permitted = 'erasure' THEN
        IF NEW.salt IS NULL AND to_jsonb(NEW) - v_personal = to_jsonb(OLD) - v_personal THEN
            RETURN NEW;
        END IF;
    ELSIF TG_OP = 'DELETE' AND v_permitted = 'partitions' AND TG_TABLE_NAME = 'audit_logs_default' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = format('%s is append-only: %s is refused', TG_TABLE_NAME, TG_OP),
        HINT = 'erase_audit_person clears the personal fields of a user. The setting audit.retention removes old rows.';
END $$;
CREATE TRIGGER refuse_audit_change BEFORE UPDATE OR DELETE ON audit_logs FOR EACH ROW
    EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER refuse_audit_truncate BEFORE TRUNCATE ON audit_logs FOR EACH STATEMENT
    EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER refuse_audit_truncate BEFORE TRUNCATE ON audit_logs_default FOR EACH STATEMENT
    EXECUTE FUNCTION refuse_audit_change();

-- chat_owner looks up what append_audit's callers cannot give: the address and the device of a session.
CREATE POLICY owner_resolves_sessions ON sessions FOR SELECT TO chat_owner USING (true);
