-- The user with this id, as user_json.

CREATE FUNCTION actor_json(p_actor bigint) RETURNS jsonb LANGUAGE sql STABLE AS
    $$ SELECT user_json(u) FROM users u WHERE u.id = p_actor $$;
