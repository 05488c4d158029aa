-- Joins by the code of an invitation. It counts as an invitation by its creator: blocks between the two apply, and the
-- creator must still have the role that create_invite needs.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_join_by_invite(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    i conversation_invites;
BEGIN
    IF m.user_id IS NULL THEN
        SELECT * INTO i FROM conversation_invites x WHERE x.code = p.arguments ->> 'code' AND x.conversation_id = c.id;
        IF NOT FOUND OR i.expires_at <= now() OR i.uses >= i.max_uses
           OR NOT EXISTS (SELECT FROM conversation_members x WHERE x.conversation_id = c.id
                             AND x.user_id = i.created_by AND x.role >= 'moderator') THEN
            PERFORM refuse('not_found', 'data.code: This invitation does not exist, has ended, or was used up.');
        END IF;
        UPDATE conversation_invites x SET uses = x.uses + 1 WHERE x.code = i.code;
    END IF;
    o := admit_member(c, p, p.actor_id, i.created_by);
    o.result := jsonb_build_object('conversation', conversation_now(c.id, p.actor_id));
    RETURN o;
END $$;
