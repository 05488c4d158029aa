-- Ends a user's request to join, if there is one. Returns the notice for the user and the moderators, or NULL.
-- Locks: the conversation's row, which the caller holds.

CREATE FUNCTION close_request(c conversations, p_user bigint, p_actor bigint, p_outcome text) RETURNS jsonb
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM conversation_join_requests x WHERE x.conversation_id = c.id AND x.user_id = p_user;
    RETURN CASE WHEN FOUND THEN request_notice(c.id, ARRAY[p_user], 'join_request_decided', jsonb_build_object(
        'user', actor_json(p_user), 'outcome', p_outcome, 'actor', actor_json(p_actor))) END;
END $$;
