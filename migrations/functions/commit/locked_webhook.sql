-- A webhook that a user may manage, for a change of it: as managed_webhook, read after its row was locked.
-- Locks: the webhook's row.

CREATE FUNCTION locked_webhook(p_user bigint, p_webhook bigint) RETURNS SETOF webhooks LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM webhooks x WHERE x.id = p_webhook FOR NO KEY UPDATE;
    RETURN QUERY SELECT * FROM managed_webhook(p_user, p_webhook);
END $$;
