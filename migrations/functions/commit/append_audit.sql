-- Appends rows to the audit trail: an array of {user_id, action, target_type, target_id, conversation_id, session_id,
-- reason, details, ip_address, device}. The last two are of the request that caused the row. Without them, as at a
-- sign-in, the row has those of its session.
-- Call it last in a transaction: the next one that appends waits until this one ends. It waits two seconds at most, or
-- app.audit_wait_ms, and fails with lock_not_available then: a transaction that holds the end of the chain for long
-- must not hold up everything else. The caller's change is rolled back with it.
-- SECURITY DEFINER: nobody but the owner may write audit_logs.
-- Locks: the row of audit_head (FOR UPDATE), after everything else, until the transaction ends.

CREATE FUNCTION append_audit(p_rows jsonb) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT AS $$
DECLARE
    h audit_head;
    r audit_logs;
    v_given jsonb;
    v_ip text;
    v_device text;
BEGIN
    PERFORM set_config('lock_timeout', coalesce(nullif(current_setting('app.audit_wait_ms', true), ''), '2000'), true);
    SELECT * INTO STRICT h FROM audit_head x FOR UPDATE;
    FOR v_given IN SELECT jsonb_array_elements(p_rows) LOOP
        r := jsonb_populate_record(NULL::audit_logs, v_given);
        -- Never earlier than the row before it, whatever the clock says: a partition holds a contiguous part.
        h.created_at := greatest(h.created_at, clock_timestamp());
        h.position := h.position + 1;
        r.position := h.position;
        r.created_at := h.created_at;
        IF r.ip_address IS NULL OR r.device IS NULL THEN
            SELECT s.ip, s.device_name INTO v_ip, v_device FROM sessions s
             WHERE s.id = r.session_id AND s.user_id = r.user_id;
            r.ip_address := coalesce(r.ip_address, v_ip);
            r.device := coalesce(r.device, v_device);
        END IF;
        r.salt := uuid_send(gen_random_uuid());
        r.commitment := audit_commitment(r);
        r.previous_hash := h.hash;
        r.hash := audit_hash(r);
        h.hash := r.hash;
        BEGIN
            INSERT INTO audit_logs VALUES (r.*);
        EXCEPTION WHEN check_violation THEN
            -- It waited for the default partition while make_audit_partitions made the one of this month.
            INSERT INTO audit_logs VALUES (r.*);
        END;
    END LOOP;
    UPDATE audit_head x SET position = h.position, created_at = h.created_at, hash = h.hash WHERE x.only_row;
END $$;

REVOKE ALL ON FUNCTION append_audit(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION append_audit(jsonb) TO chat_writer;
