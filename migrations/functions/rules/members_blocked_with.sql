-- The members of a conversation between whom and a user there is a block: what the user signals is hidden from them,
-- and what they signal from the user. NULL if there are blocks with more than 10,000 users: then nobody receives a
-- signal.

CREATE FUNCTION members_blocked_with(p_conversation bigint, p_user bigint) RETURNS bigint[]
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_users bigint[] := ARRAY(
        SELECT b.blocked_id FROM user_blocks b WHERE b.user_id = p_user
        UNION ALL SELECT b.user_id FROM user_blocks b WHERE b.blocked_id = p_user
        LIMIT 10001);
BEGIN
    IF cardinality(v_users) > 10000 THEN
        RETURN NULL;
    ELSIF v_users = '{}' THEN
        RETURN v_users;
    END IF;
    RETURN ARRAY(SELECT DISTINCT m.user_id FROM conversation_members m
                  WHERE m.conversation_id = p_conversation AND m.user_id = ANY (v_users));
END $$;
