-- Unblocks a user.
-- Locks: the user's row of toggle_budgets.

CREATE FUNCTION mutate_unblock_user(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
BEGIN
    DELETE FROM user_blocks b WHERE b.user_id = p.actor_id AND b.blocked_id = (p.arguments -> 'user_id')::bigint;
    IF FOUND THEN
        PERFORM charge_toggle(p.actor_id);
    END IF;
    o.result := jsonb_build_object('user_id', p.arguments -> 'user_id', 'blocked', false);
    RETURN o;
END $$;
