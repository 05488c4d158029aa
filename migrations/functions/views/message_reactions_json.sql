-- The reactions of a message, the oldest emoji first.

CREATE FUNCTION message_reactions_json(p_message bigint) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object('emoji', r.emoji, 'count', r.n, 'me', r.mine)
                              ORDER BY r.first_at, r.emoji), '[]')
      FROM (SELECT x.emoji, count(*) AS n, bool_or(x.user_id = app_user_id()) AS mine, min(x.created_at) AS first_at
              FROM message_reactions x WHERE x.message_id = p_message GROUP BY x.emoji) r
$$;
