-- Removes a member of a lower role.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_remove_member(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    v_user bigint := (p.arguments -> 'user_id')::bigint;
BEGIN
    PERFORM member_below(c, m, v_user);
    o := remove_member(o, c, p, v_user, 'removed');
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user);
    RETURN o;
END $$;
