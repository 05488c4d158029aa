-- The conversation that an invitation leads to.
-- SECURITY DEFINER: the code is all that its bearer needs to know; others' invitations stay hidden.

CREATE FUNCTION conversation_of_invite(p_code text) RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path FROM CURRENT AS
    $$ SELECT conversation_id FROM conversation_invites WHERE code = p_code $$;

REVOKE ALL ON FUNCTION conversation_of_invite(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION conversation_of_invite(text) TO chat_app;
