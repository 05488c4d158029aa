-- Deletes an incoming webhook that the user may manage, and deactivates its bot. What the bot has written stays. p_row
-- begins the audit row. Returns the bot and the conversation that it must leave; no row if there is no such webhook.
-- Locks: the webhook's row, the bot's, then the end of the audit trail.

CREATE FUNCTION delete_incoming_webhook(p_user bigint, p_webhook bigint, p_row jsonb)
RETURNS TABLE (bot_id bigint, conversation_id bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    w incoming_webhooks;
BEGIN
    SELECT * INTO w FROM managed_incoming_webhook(p_user, p_webhook);
    IF NOT FOUND THEN
        RETURN;
    END IF;
    DELETE FROM incoming_webhooks x WHERE x.id = p_webhook;
    DELETE FROM bots b WHERE b.user_id = w.bot_id;
    UPDATE users u SET is_active = false WHERE u.id = w.bot_id;
    PERFORM append_audit(jsonb_build_array(p_row || jsonb_build_object(
        'conversation_id', w.conversation_id, 'target_type', 'incoming_webhook', 'target_id', p_webhook,
        'details', jsonb_build_object('before', jsonb_build_object('bot_id', w.bot_id)))));
    RETURN QUERY SELECT w.bot_id, w.conversation_id;
END $$;
