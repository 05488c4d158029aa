-- Requests to join a room, for its moderators; without a room the user's own requests, those that no room has received
-- among them (mutate_request_to_join.sql).

CREATE FUNCTION read_list_join_requests(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_conversation bigint := CASE WHEN p_arguments ->> 'conversation' IS NOT NULL
                                  THEN require_moderator(p_arguments) END;
BEGIN
    RETURN jsonb_build_object('requests', (
        SELECT coalesce(jsonb_agg(jsonb_build_object('conversation_id', conversation_text_id(r.conversation_id),
                   'user', actor_json(r.user_id), 'text', r.text, 'created_at', rfc3339(r.created_at))
                   ORDER BY r.created_at, r.user_id), '[]')
          FROM (SELECT x.conversation_id, x.user_id, x.text, x.created_at FROM conversation_join_requests x
                 WHERE (v_conversation IS NULL AND x.user_id = app_user_id()) OR x.conversation_id = v_conversation
                 UNION ALL
                SELECT x.conversation_id, x.user_id, x.text, x.created_at FROM unheard_requests x
                 WHERE v_conversation IS NULL AND x.user_id = app_user_id()) r));
END $$;
