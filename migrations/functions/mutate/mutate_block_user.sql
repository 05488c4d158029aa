-- Blocks a user. A block is between two users and in no conversation's log. A user blocks 1,000 others at most.
-- Locks: none; the primary key makes it idempotent.

CREATE FUNCTION mutate_block_user(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    v_user bigint := (p_arguments -> 'user_id')::bigint;
BEGIN
    IF v_user = p_actor THEN
        PERFORM refuse('bad_request', 'data.user_id: nobody can block themselves');
    ELSIF NOT EXISTS (SELECT FROM users u WHERE u.id = v_user) THEN
        PERFORM refuse('not_found', 'data.user_id: no such user');
    ELSIF (SELECT count(*) FROM user_blocks b WHERE b.user_id = p_actor) >= 1000 THEN
        PERFORM refuse('conflict', 'at most 1000 users can be blocked; unblock one first');
    END IF;
    INSERT INTO user_blocks (user_id, blocked_id) VALUES (p_actor, v_user) ON CONFLICT DO NOTHING;
    o.parted := v_user;
    o.result := jsonb_build_object('user_id', v_user, 'blocked', true);
    RETURN o;
END $$;
