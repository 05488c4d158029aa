-- Users whom the user has blocked, the newest block first.

CREATE FUNCTION read_list_blocks(p_arguments jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('users', coalesce(jsonb_agg(user_json(u) ORDER BY b.created_at DESC, u.id), '[]'))
      FROM user_blocks b JOIN users u ON u.id = b.blocked_id WHERE b.user_id = app_user_id()
$$;
