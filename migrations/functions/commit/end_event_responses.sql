-- An administrator ends the responses to a security event that are in force. p_row is what all of the audit rows have:
-- {user_id, session_id, action …}. Returns how many.
-- Locks: the rows of the responses and of their users, then that of audit_head.

CREATE FUNCTION end_event_responses(p_event bigint, p_row jsonb) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    r account_responses;
    v_audit jsonb := '[]';
BEGIN
    FOR r IN UPDATE account_responses x SET ends_at = now(), ended_by = (p_row -> 'user_id')::bigint
              WHERE x.event_id = p_event AND x.ends_at > now() RETURNING x.* LOOP
        IF r.response = 'mute' THEN
            UPDATE users u SET muted_until = (
                SELECT max(x.ends_at) FROM account_responses x
                 WHERE x.user_id = r.user_id AND x.response = 'mute' AND x.ends_at > now())
             WHERE u.id = r.user_id;
        END IF;
        v_audit := v_audit || jsonb_build_array(p_row || jsonb_build_object(
            'target_type', 'user', 'target_id', r.user_id,
            'details', jsonb_build_object('event_id', p_event, 'response', r.response)));
    END LOOP;
    IF v_audit <> '[]' THEN
        PERFORM append_audit(v_audit);
    END IF;
    RETURN jsonb_array_length(v_audit);
END $$;
