-- Joins a public room. A member who joins again gets the first result.
-- Locks: the conversation's row (locked_conversation).

CREATE FUNCTION mutate_join_conversation(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    v_seq bigint;
BEGIN
    o.conversation_id := c.id;
    SELECT m.joined_seq INTO v_seq FROM conversation_members m WHERE m.conversation_id = c.id AND m.user_id = p_actor;
    IF NOT FOUND THEN
        IF c.kind = 'private_room' THEN
            PERFORM refuse('forbidden',
                'this room is private; ask to be let in (request_to_join), or a member for an invitation');
        ELSIF c.kind <> 'public_room' THEN
            PERFORM refuse('forbidden', 'only public rooms can be joined; ask a member for an invitation');
        END IF;
        o.events := add_member(c, p_actor, p_actor, p_mutation_id);
        o.gained := ARRAY[p_actor];
        v_seq := o.events -> 0 -> 'seq';
    END IF;
    o.result := jsonb_build_object('conversation', conversation_now(c.id, p_actor), 'seq', v_seq);
    RETURN o;
END $$;
