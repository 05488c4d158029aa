-- The conversation as the actor sees it after a mutation, read again.

CREATE FUNCTION conversation_now(p_conversation bigint, p_actor bigint) RETURNS jsonb LANGUAGE sql STABLE AS
    $$ SELECT conversation_json(x, p_actor) FROM conversations x WHERE x.id = p_conversation $$;
