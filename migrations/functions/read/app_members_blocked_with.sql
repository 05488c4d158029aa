-- The members of a conversation between whom and the user there is a block.
-- SECURITY DEFINER: a user cannot read who has blocked them.

CREATE FUNCTION app_members_blocked_with(p_conversation bigint) RETURNS bigint[] LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path FROM CURRENT AS $$ SELECT members_blocked_with(p_conversation, app_user_id()) $$;

REVOKE ALL ON FUNCTION app_members_blocked_with(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app_members_blocked_with(bigint) TO chat_app;
