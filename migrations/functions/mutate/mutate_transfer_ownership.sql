-- Makes another member the owner and the owner an admin. Both mutes end: nobody could lift the mute of an owner.
-- Locks: the conversation's row (locked_conversation).

CREATE FUNCTION mutate_transfer_ownership(
    p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members;
    v_user bigint := (p_arguments -> 'user_id')::bigint;
BEGIN
    o.conversation_id := c.id;
    m := ruling_member(c, p_actor, 'owner');
    PERFORM ruled_member(c, m, v_user);
    -- Nobody could lift the mute of an owner.
    UPDATE conversation_members x SET role = CASE WHEN x.user_id = v_user THEN 'owner' ELSE 'admin' END::member_role,
           muted_until = NULL
     WHERE x.conversation_id = c.id AND x.user_id IN (p_actor, v_user);
    UPDATE conversations x SET owner_id = v_user WHERE x.id = c.id;
    o.events := jsonb_build_array(
        append_event(c.id, 'member_updated', p_actor, p_mutation_id, jsonb_build_object(
            'user', actor_json(v_user), 'role', 'owner', 'muted_until', NULL, 'actor', actor_json(p_actor))),
        append_event(c.id, 'member_updated', p_actor, p_mutation_id, jsonb_build_object(
            'user', actor_json(p_actor), 'role', 'admin', 'muted_until', NULL, 'actor', actor_json(p_actor))),
        append_event(c.id, 'conversation_updated', p_actor, p_mutation_id, jsonb_build_object(
            'owner_id', v_user, 'actor', actor_json(p_actor))));
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'owner_id', v_user,
                                   'seq', o.events -> -1 -> 'seq');
    RETURN o;
END $$;
