-- Gives a bot that the user manages a new secret for the requests of its slash commands; the old one ends. p_row begins
-- the audit row. Returns whether there is such a bot.
-- Locks: the bot's row, then the end of the audit trail.

CREATE FUNCTION rotate_bot_secret(p_user bigint, p_bot bigint, p_key_id text, p_sealed bytea, p_row jsonb)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM managed_bot(p_user, p_bot);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE bots x SET key_id = p_key_id, sealed = p_sealed WHERE x.user_id = p_bot;
    PERFORM append_audit(jsonb_build_array(p_row || jsonb_build_object('target_type', 'user', 'target_id', p_bot)));
    RETURN true;
END $$;
