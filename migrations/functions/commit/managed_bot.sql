-- A bot that a user manages: the user has made it with /bots.
-- Locks: the bot's row.

CREATE FUNCTION managed_bot(p_user bigint, p_bot bigint) RETURNS SETOF bots LANGUAGE sql AS $$
    SELECT b.* FROM bots b WHERE b.user_id = p_bot AND b.owner_id = p_user AND b.is_managed FOR NO KEY UPDATE
$$;
