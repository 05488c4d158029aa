-- Bans a user and removes them if they are a member, which ends their invitations. Declines their request to join.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_ban_member(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    v_user bigint := (p.arguments -> 'user_id')::bigint;
BEGIN
    o.seq := c.last_seq;
    IF NOT EXISTS (SELECT FROM users u WHERE u.id = v_user) THEN
        PERFORM refuse('not_found', 'data.user_id: There is no such user.');
    ELSIF EXISTS (SELECT FROM conversation_members x WHERE x.conversation_id = c.id AND x.user_id = v_user) THEN
        PERFORM member_below(c, m, v_user);
        o := remove_member(o, c, p, v_user, 'banned');
    ELSIF NOT EXISTS (SELECT FROM conversation_bans b WHERE b.conversation_id = c.id AND b.user_id = v_user) THEN
        o := append_event(o, c, p, 'member_updated', jsonb_build_object(
            'user', actor_json(v_user), 'banned', true, 'actor', actor_json(p.actor_id)));
    END IF;
    INSERT INTO conversation_bans (conversation_id, user_id, banned_by, reason)
    VALUES (c.id, v_user, p.actor_id, p.arguments ->> 'reason') ON CONFLICT DO NOTHING;
    o := close_request(o, c, v_user, p.actor_id, 'declined');
    o.lost := ARRAY[v_user];
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user);
    RETURN o;
END $$;
