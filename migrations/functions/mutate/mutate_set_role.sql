-- Changes the role of a member of a lower role, to a role below the actor's. A role that may not make invitations ends
-- those of the member.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_set_role(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    t conversation_members;
    v_user bigint := (p.arguments -> 'user_id')::bigint;
    v_role member_role := p.arguments ->> 'role';
BEGIN
    o.seq := c.last_seq;
    t := member_below(c, m, v_user);
    IF v_role >= m.role THEN
        PERFORM refuse('forbidden',
            'data.role: You can only assign roles below your own. Send transfer_ownership to make another owner.');
    ELSIF t.role <> v_role THEN
        UPDATE conversation_members x SET role = v_role WHERE x.conversation_id = c.id AND x.user_id = v_user;
        IF v_role < 'moderator' THEN
            DELETE FROM conversation_invites x WHERE x.conversation_id = c.id AND x.created_by = v_user;
        END IF;
        o := append_event(o, c, p, 'member_updated', jsonb_build_object(
            'user', actor_json(v_user), 'role', v_role, 'actor', actor_json(p.actor_id)));
    END IF;
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user, 'role', v_role);
    RETURN o;
END $$;
