-- Revokes a token of a bot that the user manages. p_row begins the audit row, whose target is the bot: other nodes look
-- up which of its sessions have ended. Returns whether there was such a token.
-- Locks: the bot's row, the session's, then the end of the audit trail.

CREATE FUNCTION revoke_bot_token(p_user bigint, p_bot bigint, p_session bigint, p_row jsonb) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM managed_bot(p_user, p_bot);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM bot_tokens t WHERE t.session_id = p_session AND t.bot_id = p_bot;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE sessions s SET revoked_at = now() WHERE s.id = p_session AND s.revoked_at IS NULL;
    PERFORM append_audit(jsonb_build_array(p_row || jsonb_build_object(
        'target_type', 'user', 'target_id', p_bot, 'details', jsonb_build_object('revoked', ARRAY[p_session]))));
    RETURN true;
END $$;
