-- Creates an incoming webhook of a group or room, and the bot that posts through it. p_row begins the audit row.
-- Returns the webhook and the bot. The caller adds the bot to the conversation.
-- Locks: the user's row, so that the webhooks are counted; then the end of the audit trail.

CREATE FUNCTION create_incoming_webhook(
    p_user bigint, p_conversation bigint, p_name text, p_username text, p_token_hash bytea, p_row jsonb)
RETURNS TABLE (id bigint, bot_id bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    c conversations;
    m conversation_members;
    v_bot bigint;
    v_id  bigint;
BEGIN
    PERFORM FROM users u WHERE u.id = p_user FOR NO KEY UPDATE;
    SELECT x.* INTO c FROM conversations x WHERE x.id = p_conversation;
    SELECT x.* INTO m FROM conversation_members x WHERE x.conversation_id = c.id AND x.user_id = p_user;
    IF m IS NULL THEN
        PERFORM refuse_outsider(c);
    ELSIF c.kind = 'direct' THEN
        PERFORM refuse('bad_request', 'conversation_id: A direct conversation has no incoming webhooks.');
    ELSIF m.role < 'admin' THEN
        PERFORM refuse('forbidden', 'Only the owner and the admins of a conversation can create its webhooks.');
    ELSIF (SELECT count(*) FROM incoming_webhooks w WHERE w.conversation_id = p_conversation) >= 20 THEN
        PERFORM refuse('conflict', 'A conversation can have 20 incoming webhooks. Delete one of them.');
    ELSIF (SELECT count(*) FROM bots b WHERE b.owner_id = p_user AND NOT b.is_managed) >= 50 THEN
        PERFORM refuse('conflict', 'You can have 50 incoming webhooks. Delete one of them.');
    END IF;
    INSERT INTO users (username, display_name, is_bot) VALUES (p_username, p_name, true)
    RETURNING users.id INTO STRICT v_bot;
    INSERT INTO bots (user_id, owner_id) VALUES (v_bot, p_user);
    INSERT INTO incoming_webhooks (conversation_id, bot_id, token_hash)
    VALUES (p_conversation, v_bot, p_token_hash) RETURNING incoming_webhooks.id INTO STRICT v_id;
    PERFORM append_audit(jsonb_build_array(p_row || jsonb_build_object(
        'conversation_id', p_conversation, 'target_type', 'incoming_webhook', 'target_id', v_id,
        'details', jsonb_build_object('after', jsonb_build_object('name', p_name, 'bot_id', v_bot)))));
    RETURN QUERY SELECT v_id, v_bot;
END $$;
