-- A user as the protocol shows them beside a message or an event. People have no role there.

CREATE FUNCTION user_json(u users) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('id', u.id, 'username', u.username, 'display_name', u.display_name)
           || CASE WHEN u.is_bot THEN '{"role": "bot"}' ELSE '{}' END::jsonb
$$;
