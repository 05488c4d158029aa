-- A notice about a request to join: for p_also and the moderators, the highest roles first, 100 moderators at most.
-- Moderators who have blocked the user, or are blocked by them, receive nothing.

CREATE FUNCTION request_notice(p_conversation bigint, p_also bigint[], p_kind text, p_payload jsonb) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_array(jsonb_build_object('kind', p_kind, 'payload', p_payload, 'users', p_also || array(
        SELECT m.user_id FROM conversation_members m
         WHERE m.conversation_id = p_conversation AND m.role >= 'moderator' AND m.user_id <> ALL (p_also)
           AND NOT is_blocked(m.user_id, (p_payload -> 'user' -> 'id')::bigint)
         ORDER BY m.role DESC, m.user_id LIMIT 100)))
$$;
