-- The conversation that a read is about. Refuses users who are not members.

CREATE FUNCTION require_access(p_arguments jsonb) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_conversation bigint := (p_arguments -> 'conversation')::bigint;
BEGIN
    CASE app_access(v_conversation)
        WHEN 'member' THEN RETURN v_conversation;
        WHEN 'not_member' THEN
            PERFORM refuse('not_member', 'You are not a member of this conversation. Join it first.');
        ELSE PERFORM refuse('not_found',
            'data.conversation_id: There is no such conversation, or you are not a member of it.');
    END CASE;
    RETURN NULL;
END $$;
