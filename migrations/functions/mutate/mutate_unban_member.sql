-- Lifts a ban. The user has to join again.
-- Locks: the conversation's row (locked_conversation).

CREATE FUNCTION mutate_unban_member(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := ruling_member(c, p_actor, 'moderator');
    v_user bigint := (p_arguments -> 'user_id')::bigint;
BEGIN
    o.conversation_id := c.id;
    DELETE FROM conversation_bans b WHERE b.conversation_id = c.id AND b.user_id = v_user;
    IF FOUND THEN
        o.events := jsonb_build_array(append_event(c.id, 'member_updated', p_actor, p_mutation_id, jsonb_build_object(
            'user', actor_json(v_user), 'banned', false, 'actor', actor_json(p_actor))));
    END IF;
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user,
                                   'seq', coalesce(o.events -> 0 -> 'seq', to_jsonb(c.last_seq)));
    RETURN o;
END $$;
