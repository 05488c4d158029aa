-- Ends a legal hold. p_row begins the audit row. Returns whether it was in force. What waited for it goes on at once.
-- Locks: the hold's row, then the end of the audit trail.

CREATE FUNCTION release_hold(p_hold bigint, p_actor bigint, p_row jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    h legal_holds;
BEGIN
    UPDATE legal_holds x SET released_at = now(), released_by = p_actor
     WHERE x.id = p_hold AND x.released_at IS NULL RETURNING * INTO h;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE jobs j SET next_at = now() WHERE j.kind IN ('erase_person', 'apply_retention');
    PERFORM append_audit(jsonb_build_array(p_row || jsonb_build_object(
        'conversation_id', h.conversation_id,
        'target_type', CASE WHEN h.user_id IS NULL THEN 'conversation' ELSE 'user' END,
        'target_id', coalesce(h.user_id, h.conversation_id), 'details', jsonb_build_object('hold', h.id))));
    RETURN true;
END $$;
