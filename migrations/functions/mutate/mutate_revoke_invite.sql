-- Revokes an invitation.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_revoke_invite(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
BEGIN
    DELETE FROM conversation_invites x WHERE x.conversation_id = c.id AND x.code = p.arguments ->> 'code';
    o.result := jsonb_build_object('code', p.arguments -> 'code');
    RETURN o;
END $$;
