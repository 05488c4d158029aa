-- Holds everything of a user, or of a conversation, for a court. p_row begins the audit row. Refuses a second hold of
-- the same.
-- Locks: the end of the audit trail.

CREATE FUNCTION create_hold(p_user bigint, p_conversation bigint, p_reason text, p_row jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    h legal_holds;
BEGIN
    IF p_user IS NOT NULL AND NOT EXISTS (SELECT FROM users u WHERE u.id = p_user AND u.erased_at IS NULL) THEN
        PERFORM refuse('not_found', 'user_id: No user has this id.');
    ELSIF p_conversation IS NOT NULL AND NOT EXISTS (SELECT FROM conversations c WHERE c.id = p_conversation) THEN
        PERFORM refuse('not_found', 'conversation_id: There is no such conversation.');
    END IF;
    INSERT INTO legal_holds (user_id, conversation_id, reason, created_by)
    VALUES (p_user, p_conversation, p_reason, (p_row -> 'user_id')::bigint)
    ON CONFLICT DO NOTHING RETURNING * INTO h;
    IF NOT FOUND THEN
        PERFORM refuse('conflict', 'This is on hold already. GET /admin/holds lists the holds.');
    END IF;
    PERFORM append_audit(jsonb_build_array(p_row || jsonb_build_object(
        'conversation_id', p_conversation, 'target_type', CASE WHEN p_user IS NULL THEN 'conversation' ELSE 'user' END,
        'target_id', coalesce(p_user, p_conversation), 'reason', p_reason,
        'details', jsonb_build_object('hold', h.id))));
    RETURN hold_json(h);
END $$;
