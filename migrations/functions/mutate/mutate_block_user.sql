-- Blocks a user. A block is between two users and in no conversation's log. A user blocks 1,000 others at most.
-- Locks: the user's row of toggle_budgets. The primary key makes it idempotent.

CREATE FUNCTION mutate_block_user(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    v_user bigint := (p.arguments -> 'user_id')::bigint;
BEGIN
    IF v_user = p.actor_id THEN
        PERFORM refuse('bad_request', 'data.user_id: You cannot block yourself.');
    ELSIF NOT EXISTS (SELECT FROM users u WHERE u.id = v_user) THEN
        PERFORM refuse('not_found', 'data.user_id: There is no such user.');
    ELSIF (SELECT count(*) FROM user_blocks b WHERE b.user_id = p.actor_id) >= 1000 THEN
        PERFORM refuse('conflict', 'You can block at most 1000 users. Unblock one first.');
    END IF;
    INSERT INTO user_blocks (user_id, blocked_id) VALUES (p.actor_id, v_user) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        PERFORM charge_toggle(p.actor_id);
    END IF;
    o.blocked := v_user;
    o.result := jsonb_build_object('user_id', v_user, 'blocked', true);
    RETURN o;
END $$;
