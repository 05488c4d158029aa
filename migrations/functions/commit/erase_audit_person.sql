-- Erases a person from the audit trail: the personal fields of the rows in which the user acted or was the target.
-- The erasure is a row itself, which names the erased positions. `chat-server audit verify` accepts missing fields at
-- these positions only. Returns how many rows were erased.
-- Only the owner can execute it: an erasure cannot be undone, and it hides who did what.
-- Locks: the row of audit_head (FOR UPDATE), so that no row of the user is appended meanwhile; then the user's rows.

CREATE FUNCTION erase_audit_person(p_user bigint, p_actor bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_erased int8multirange;
    v_count  bigint;
BEGIN
    PERFORM FROM audit_head FOR UPDATE;
    PERFORM set_config('app.audit_change', 'erasure', true);
    WITH erased AS (
        UPDATE audit_logs x SET ip_address = NULL, device = NULL, reason = NULL, details = NULL, salt = NULL
         WHERE (x.user_id = p_user OR (x.target_type = 'user' AND x.target_id = p_user))
           -- An earlier erasure has no personal field, and its positions are needed.
           AND x.salt IS NOT NULL AND x.action <> 'erase_person'
        RETURNING x.position)
    SELECT range_agg(int8range(e.position, e.position, '[]')), count(*) INTO v_erased, v_count FROM erased e;
    PERFORM set_config('app.audit_change', '', true);
    PERFORM append_audit(jsonb_build_array(jsonb_build_object(
        'user_id', p_actor, 'action', 'erase_person', 'target_type', 'user', 'target_id', p_user,
        'details', jsonb_build_object('positions', (
            SELECT coalesce(jsonb_agg(jsonb_build_array(lower(r), upper(r) - 1) ORDER BY r), '[]')
              FROM unnest(v_erased) r)))));
    RETURN v_count;
END $$;
