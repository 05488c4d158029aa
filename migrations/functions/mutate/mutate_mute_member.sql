-- Mutes a member of a lower role for a time, or until a moderator unmutes them; a duration of 0 unmutes. Without an end
-- the mute is stored as the year 9999, so that every comparison of times works.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_mute_member(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    v_user  bigint := (p.arguments -> 'user_id')::bigint;
    v_for_s bigint := (p.arguments ->> 'duration_s')::bigint;
    v_until timestamptz := CASE WHEN v_for_s IS NULL THEN '9999-12-31T00:00:00Z'::timestamptz
                                WHEN v_for_s > 0
                                THEN date_trunc('milliseconds', now() + make_interval(secs => v_for_s)) END;
BEGIN
    PERFORM member_below(c, m, v_user);
    UPDATE conversation_members x SET muted_until = v_until WHERE x.conversation_id = c.id AND x.user_id = v_user;
    o := append_event(o, c, p, 'member_updated', jsonb_build_object(
        'user', actor_json(v_user), 'muted_until', rfc3339(v_until), 'actor', actor_json(p.actor_id)));
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user,
                                   'muted_until', rfc3339(v_until));
    RETURN o;
END $$;
