-- Adds a token to a bot that the user manages, which may have 20. It may be limited to conversations of the bot. p_row
-- begins the audit row. Returns its session and when it expires; no row if there is no such bot.
-- Locks: the bot's row, then the end of the audit trail.

CREATE FUNCTION add_bot_token(
    p_user bigint, p_bot bigint, p_name text, p_token_hash bytea, p_scopes text[], p_conversations bigint[],
    p_seconds double precision, p_ip text, p_row jsonb)
RETURNS TABLE (session_id bigint, expires_at timestamptz) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_session bigint;
    v_expires timestamptz := now() + make_interval(secs => p_seconds);
    v_foreign bigint;
BEGIN
    PERFORM FROM managed_bot(p_user, p_bot);
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF (SELECT count(*) FROM bot_tokens t WHERE t.bot_id = p_bot AND t.expires_at > now()) >= 20 THEN
        PERFORM refuse('conflict', 'A bot can have 20 tokens. Revoke one of them.');
    END IF;
    SELECT x INTO v_foreign FROM unnest(p_conversations) x
     WHERE NOT EXISTS (SELECT FROM conversation_members m WHERE m.conversation_id = x AND m.user_id = p_bot) LIMIT 1;
    IF v_foreign IS NOT NULL THEN
        PERFORM refuse('not_member', format('conversation_ids: The bot is not a member of %s. Add it first.',
            conversation_text_id(v_foreign)));
    END IF;
    INSERT INTO sessions (user_id, device_name, ip) VALUES (p_bot, p_name, p_ip) RETURNING id INTO STRICT v_session;
    INSERT INTO bot_tokens (session_id, bot_id, name, token_hash, scopes, conversation_ids, expires_at)
    VALUES (v_session, p_bot, p_name, p_token_hash, p_scopes, p_conversations, v_expires);
    PERFORM append_audit(jsonb_build_array(p_row || jsonb_build_object(
        'target_type', 'user', 'target_id', p_bot, 'details', jsonb_build_object('after', jsonb_build_object(
            'token', v_session, 'name', p_name, 'scopes', p_scopes, 'conversations', p_conversations,
            'expires_at', rfc3339(v_expires))))));
    RETURN QUERY SELECT v_session, v_expires;
END $$;
