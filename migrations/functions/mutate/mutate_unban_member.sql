-- Lifts a ban. The user has to join again.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_unban_member(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    v_user bigint := (p.arguments -> 'user_id')::bigint;
BEGIN
    o.seq := c.last_seq;
    DELETE FROM conversation_bans b WHERE b.conversation_id = c.id AND b.user_id = v_user;
    IF FOUND THEN
        o := append_event(o, c, p, 'member_updated', jsonb_build_object(
            'user', actor_json(v_user), 'banned', false, 'actor', actor_json(p.actor_id)));
    END IF;
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user);
    RETURN o;
END $$;
