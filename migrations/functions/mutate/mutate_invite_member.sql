-- Adds another user.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_invite_member(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    v_user bigint := (p.arguments -> 'user_id')::bigint;
BEGIN
    o := admit_member(c, p, v_user, p.actor_id);
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user);
    RETURN o;
END $$;
