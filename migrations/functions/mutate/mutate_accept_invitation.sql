-- Joins by an invitation. It ends when its sender is no longer a member; blocks between the two apply.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_accept_invitation(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    v_by bigint := p.actor_id;
BEGIN
    IF m.user_id IS NULL THEN
        SELECT x.invited_by INTO v_by FROM conversation_invitations x
          JOIN conversation_members y ON y.conversation_id = x.conversation_id AND y.user_id = x.invited_by
         WHERE x.conversation_id = c.id AND x.user_id = p.actor_id;
        IF NOT FOUND THEN
            PERFORM refuse_outsider(c);
        END IF;
    END IF;
    o := admit_member(c, p, p.actor_id, v_by);
    o.result := jsonb_build_object('conversation', conversation_now(c.id, p.actor_id));
    RETURN o;
END $$;
