-- Revokes an invitation.
-- Locks: the conversation's row (locked_conversation).

CREATE FUNCTION mutate_revoke_invite(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := ruling_member(c, p_actor, 'moderator');
BEGIN
    o.conversation_id := c.id;
    DELETE FROM conversation_invites x WHERE x.conversation_id = c.id AND x.code = p_arguments ->> 'code';
    o.result := jsonb_build_object('code', p_arguments -> 'code');
    RETURN o;
END $$;
