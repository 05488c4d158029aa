-- Withdraws the actor's request to join.
-- Locks: the conversation's row (locked_conversation).

CREATE FUNCTION mutate_cancel_join_request(
    p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
BEGIN
    o.conversation_id := c.id;
    o.notices := close_request(c, p_actor, p_actor, 'cancelled');
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'requested', false);
    RETURN o;
END $$;
