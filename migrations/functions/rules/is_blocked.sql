-- Whether one of two users has blocked the other. The order of the two does not matter.

CREATE FUNCTION is_blocked(p_one bigint, p_other bigint) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM user_blocks b WHERE b.user_id = p_one AND b.blocked_id = p_other)
        OR EXISTS (SELECT FROM user_blocks b WHERE b.user_id = p_other AND b.blocked_id = p_one)
$$;
