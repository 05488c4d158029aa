-- The pinned messages of a conversation, the newest pin first.

CREATE FUNCTION read_list_pins(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_conversation bigint := require_access(p_arguments);
BEGIN
    RETURN jsonb_build_object('messages', (
        SELECT coalesce(jsonb_agg(message_json(s) || jsonb_build_object(
                                      'pinned_at', rfc3339(p.pinned_at), 'pinned_by', p.pinned_by)
                                  ORDER BY p.seq DESC), '[]')
          FROM message_pins p JOIN shown_messages s ON s.message_id = p.message_id
         WHERE p.conversation_id = v_conversation));
END $$;
