-- A legal hold, as administrators see it.
-- needs: rfc3339

CREATE FUNCTION hold_json(h legal_holds) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('id', h.id, 'user_id', h.user_id,
        'conversation_id', CASE WHEN h.conversation_id IS NOT NULL THEN conversation_text_id(h.conversation_id) END,
        'reason', h.reason, 'created_by', h.created_by, 'created_at', rfc3339(h.created_at),
        'released_by', h.released_by, 'released_at', rfc3339(h.released_at))
$$;
