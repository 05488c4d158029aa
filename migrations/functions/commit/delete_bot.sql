-- Deactivates a bot that the user manages, and revokes its tokens. What the bot has written stays. p_row begins the
-- audit row. Returns the sessions of the tokens; null if there is no such bot. The caller lets the bot leave its
-- conversations.
-- Locks: the bot's row, its sessions, then the end of the audit trail.

CREATE FUNCTION delete_bot(p_user bigint, p_bot bigint, p_row jsonb) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    v_sessions bigint[];
BEGIN
    PERFORM FROM managed_bot(p_user, p_bot);
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    WITH revoked AS (
        UPDATE sessions s SET revoked_at = now() WHERE s.user_id = p_bot AND s.revoked_at IS NULL RETURNING s.id)
    SELECT coalesce(array_agg(r.id ORDER BY r.id), '{}') INTO v_sessions FROM revoked r;
    UPDATE users u SET is_active = false WHERE u.id = p_bot;
    DELETE FROM bots b WHERE b.user_id = p_bot;
    PERFORM append_audit(jsonb_build_array(p_row || jsonb_build_object(
        'target_type', 'user', 'target_id', p_bot, 'details', jsonb_build_object('revoked', v_sessions))));
    RETURN v_sessions;
END $$;
