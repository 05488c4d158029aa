-- Adds another user. Ends that user's request to join, if there is one.
-- Locks: the conversation's row (locked_conversation).

CREATE FUNCTION mutate_invite_member(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    v_user bigint := p_arguments -> 'user_id';
    v_seq  bigint;
BEGIN
    o.conversation_id := c.id;
    IF c.kind = 'direct' THEN
        PERFORM acting_member(c, p_actor);
        PERFORM refuse('forbidden', 'nobody can be added to a direct conversation; create a group instead');
    END IF;
    PERFORM speaking_member(c, p_actor);
    SELECT m.joined_seq INTO v_seq FROM conversation_members m WHERE m.conversation_id = c.id AND m.user_id = v_user;
    IF NOT FOUND THEN
        o.events := add_member(c, v_user, p_actor, p_mutation_id);
        o.notices := close_request(c, v_user, p_actor, 'accepted');
        v_seq := o.events -> 0 -> 'seq';
        o.gained := ARRAY[v_user];
    END IF;
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user, 'seq', v_seq);
    RETURN o;
END $$;
