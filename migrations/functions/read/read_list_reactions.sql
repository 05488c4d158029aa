-- Who reacted to a message, the oldest reaction first.

CREATE FUNCTION read_list_reactions(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    m messages := readable_message(p_arguments);
BEGIN
    RETURN jsonb_build_object('reactions', (
        SELECT coalesce(jsonb_agg(jsonb_build_object('emoji', r.emoji, 'user', actor_json(r.user_id),
                                                     'created_at', rfc3339(r.created_at))
                                  ORDER BY r.created_at, r.user_id), '[]')
          FROM (SELECT x.* FROM message_reactions x
                 WHERE x.message_id = m.id AND (p_arguments ->> 'emoji' IS NULL OR x.emoji = p_arguments ->> 'emoji')
                 ORDER BY x.created_at, x.user_id LIMIT (p_arguments -> 'limit')::bigint) r));
END $$;
