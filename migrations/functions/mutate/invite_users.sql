-- Invites users who must decide themselves. A user has 50 open invitations at most, each for 30 days, and 20 of one
-- sender. Only those count that the user sees (app_invitations): what nobody can decline must not fill the list.
-- Locks: none of its own.

CREATE FUNCTION invite_users(o mutation_outcome, c conversations, p mutation, p_users bigint[])
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    v_user bigint;
    v_open bigint;
    v_own  bigint;
BEGIN
    FOREACH v_user IN ARRAY coalesce(p_users, '{}') LOOP
        DELETE FROM conversation_invitations x WHERE x.user_id = v_user AND x.created_at < now() - interval '30 days';
        CONTINUE WHEN EXISTS (
            SELECT FROM conversation_invitations x WHERE x.conversation_id = c.id AND x.user_id = v_user);
        SELECT count(*), count(*) FILTER (WHERE x.invited_by = p.actor_id) INTO v_open, v_own
          FROM conversation_invitations x JOIN conversations y ON y.id = x.conversation_id
         WHERE x.user_id = v_user AND y.archived_at IS NULL AND NOT is_blocked(x.user_id, x.invited_by)
           AND EXISTS (SELECT FROM conversation_members m
                        WHERE m.conversation_id = x.conversation_id AND m.user_id = x.invited_by);
        IF v_open >= 50 OR v_own >= 20 THEN
            PERFORM refuse_limited(
                jsonb_build_object('window_ms', 0) || CASE WHEN v_own >= 20
                    THEN jsonb_build_object('limiter', 'invitations_to_user', 'scope', 'user', 'limit', 20)
                    ELSE jsonb_build_object('limiter', 'open_invitations', 'scope', 'recipient', 'limit', 50) END,
                format('User %s has too many open invitations. Try again later, or ask them to join.', v_user),
                now() + interval '1 hour');
        END IF;
        INSERT INTO conversation_invitations (conversation_id, user_id, invited_by) VALUES (c.id, v_user, p.actor_id);
        o.notices := coalesce(o.notices, '[]') || jsonb_build_array(jsonb_build_object(
            'users', ARRAY[v_user], 'kind', 'invitation_received', 'payload', jsonb_build_object(
                'kind', c.kind, 'name', c.name, 'invited_by', actor_json(p.actor_id), 'created_at', rfc3339(now()))));
    END LOOP;
    RETURN o;
END $$;
