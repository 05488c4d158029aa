-- The conversation as the actor sees it after a mutation, read again.

CREATE FUNCTION conversation_now(p_conversation bigint, p_actor bigint) RETURNS jsonb LANGUAGE sql STABLE AS
    $$ SELECT x.json FROM shown_conversations(p_actor) x WHERE x.id = p_conversation $$;
