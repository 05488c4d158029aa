-- Removes a member of a lower role.
-- Locks: the conversation's row (locked_conversation).

CREATE FUNCTION mutate_remove_member(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := ruling_member(c, p_actor, 'moderator');
    v_user bigint := (p_arguments -> 'user_id')::bigint;
BEGIN
    o.conversation_id := c.id;
    PERFORM ruled_member(c, m, v_user);
    o.events := remove_member(c, v_user, p_actor, p_mutation_id, 'removed');
    o.lost := ARRAY[v_user];
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user,
                                   'seq', o.events -> -1 -> 'seq');
    RETURN o;
END $$;
