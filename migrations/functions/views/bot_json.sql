-- A bot as its owner sees it.
-- needs: rfc3339

CREATE FUNCTION bot_json(b bots) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'user_id', u.id, 'username', u.username, 'display_name', u.display_name, 'avatar_url', u.avatar_url,
        'bio', u.bio, 'owner_id', b.owner_id, 'created_at', rfc3339(b.created_at),
        'tokens_count', (SELECT count(*) FROM bot_tokens t WHERE t.bot_id = u.id AND t.expires_at > now()),
        'commands_count', (SELECT count(*) FROM bot_commands c WHERE c.bot_id = u.id))
      FROM users u WHERE u.id = b.user_id
$$;
