-- Unblocks a user.
-- Locks: none.

CREATE FUNCTION mutate_unblock_user(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
BEGIN
    DELETE FROM user_blocks b WHERE b.user_id = p_actor AND b.blocked_id = (p_arguments -> 'user_id')::bigint;
    o.result := jsonb_build_object('user_id', p_arguments -> 'user_id', 'blocked', false);
    RETURN o;
END $$;
