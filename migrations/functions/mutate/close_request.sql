-- Ends a user's request to join, if there is one, with a notice to the user and the moderators.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION close_request(o mutation_outcome, c conversations, p_user bigint, p_by bigint, p_decision text)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM conversation_join_requests x WHERE x.conversation_id = c.id AND x.user_id = p_user;
    IF FOUND THEN
        o.notices := request_notice(c.id, ARRAY[p_user], 'join_request_decided', jsonb_build_object(
            'user', actor_json(p_user), 'outcome', p_decision, 'actor', actor_json(p_by)));
    END IF;
    RETURN o;
END $$;
