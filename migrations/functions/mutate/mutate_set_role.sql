-- Changes the role of a member of a lower role, to a role below the actor's.
-- Locks: the conversation's row (locked_conversation).

CREATE FUNCTION mutate_set_role(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := ruling_member(c, p_actor, 'admin');
    t conversation_members;
    v_user bigint := (p_arguments -> 'user_id')::bigint;
    v_role member_role := p_arguments ->> 'role';
BEGIN
    o.conversation_id := c.id;
    t := ruled_member(c, m, v_user);
    IF v_role >= m.role THEN
        PERFORM refuse('forbidden',
            'data.role: only roles below one''s own can be given; transfer_ownership gives the owner''s');
    ELSIF t.role <> v_role THEN
        UPDATE conversation_members x SET role = v_role WHERE x.conversation_id = c.id AND x.user_id = v_user;
        o.events := jsonb_build_array(append_event(c.id, 'member_updated', p_actor, p_mutation_id,
            jsonb_build_object('user', actor_json(v_user), 'role', v_role, 'actor', actor_json(p_actor))));
    END IF;
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user, 'role', v_role,
                                   'seq', coalesce(o.events -> 0 -> 'seq', to_jsonb(c.last_seq)));
    RETURN o;
END $$;
