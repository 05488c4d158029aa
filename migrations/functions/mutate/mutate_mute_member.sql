-- Mutes a member of a lower role for a time, or until somebody unmutes them; a duration of 0 unmutes. Without an end
-- the mute is stored as the year 9999, so that every comparison of times works.
-- Locks: the conversation's row (locked_conversation).

CREATE FUNCTION mutate_mute_member(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := ruling_member(c, p_actor, 'moderator');
    v_user  bigint := (p_arguments -> 'user_id')::bigint;
    v_for_s bigint := (p_arguments ->> 'duration_s')::bigint;
    v_until timestamptz := CASE WHEN v_for_s IS NULL THEN '9999-12-31T00:00:00Z'::timestamptz
                                WHEN v_for_s > 0
                                THEN date_trunc('milliseconds', now() + make_interval(secs => v_for_s)) END;
BEGIN
    o.conversation_id := c.id;
    PERFORM ruled_member(c, m, v_user);
    UPDATE conversation_members x SET muted_until = v_until WHERE x.conversation_id = c.id AND x.user_id = v_user;
    o.events := jsonb_build_array(append_event(c.id, 'member_updated', p_actor, p_mutation_id, jsonb_build_object(
        'user', actor_json(v_user), 'muted_until', rfc3339(v_until), 'actor', actor_json(p_actor))));
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user,
        'muted_until', o.events -> 0 -> 'payload' -> 'muted_until', 'seq', o.events -> 0 -> 'seq');
    RETURN o;
END $$;
