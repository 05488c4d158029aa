-- Whether neither of the two users has blocked the other.
-- SECURITY DEFINER: a user cannot read who has blocked them.

CREATE FUNCTION app_may_see(p_user bigint) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path FROM CURRENT AS $$ SELECT NOT is_blocked(app_user_id(), p_user) $$;

REVOKE ALL ON FUNCTION app_may_see(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app_may_see(bigint) TO chat_app;
