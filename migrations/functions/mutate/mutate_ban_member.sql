-- Bans a user and removes them if they are a member. Declines their request to join.
-- Locks: the conversation's row (locked_conversation).

CREATE FUNCTION mutate_ban_member(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := ruling_member(c, p_actor, 'moderator');
    v_user bigint := (p_arguments -> 'user_id')::bigint;
BEGIN
    o.conversation_id := c.id;
    IF NOT EXISTS (SELECT FROM users u WHERE u.id = v_user) THEN
        PERFORM refuse('not_found', 'data.user_id: no such user');
    ELSIF EXISTS (SELECT FROM conversation_members x WHERE x.conversation_id = c.id AND x.user_id = v_user) THEN
        PERFORM ruled_member(c, m, v_user);
        o.events := remove_member(c, v_user, p_actor, p_mutation_id, 'banned');
    ELSIF NOT EXISTS (SELECT FROM conversation_bans b WHERE b.conversation_id = c.id AND b.user_id = v_user) THEN
        o.events := jsonb_build_array(append_event(c.id, 'member_updated', p_actor, p_mutation_id, jsonb_build_object(
            'user', actor_json(v_user), 'banned', true, 'actor', actor_json(p_actor))));
    END IF;
    INSERT INTO conversation_bans (conversation_id, user_id, banned_by, reason)
    VALUES (c.id, v_user, p_actor, p_arguments ->> 'reason') ON CONFLICT DO NOTHING;
    o.notices := close_request(c, v_user, p_actor, 'declined');
    o.lost := ARRAY[v_user];
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user,
                                   'seq', coalesce(o.events -> -1 -> 'seq', to_jsonb(c.last_seq)));
    RETURN o;
END $$;
