-- Banned users of a conversation, the newest ban first, 1,000 at most. For moderators.

CREATE FUNCTION read_list_bans(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_conversation bigint := require_moderator(p_arguments);
BEGIN
    RETURN jsonb_build_object('bans', (
        SELECT coalesce(jsonb_agg(jsonb_build_object('user', actor_json(b.user_id), 'banned_by', b.banned_by,
                   'reason', b.reason, 'created_at', rfc3339(b.created_at))
                                  ORDER BY b.created_at DESC, b.user_id), '[]')
          FROM (SELECT x.* FROM conversation_bans x WHERE x.conversation_id = v_conversation
                 ORDER BY x.created_at DESC LIMIT 1000) b));
END $$;
