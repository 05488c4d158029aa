-- An incoming webhook that a user may manage: as its maker, or as an administrator of its conversation.
-- Locks: the webhook's row.

CREATE FUNCTION managed_incoming_webhook(p_user bigint, p_webhook bigint) RETURNS SETOF incoming_webhooks
LANGUAGE sql AS $$
    SELECT w.* FROM incoming_webhooks w JOIN bots b ON b.user_id = w.bot_id
     WHERE w.id = p_webhook AND (b.owner_id = p_user OR EXISTS (
           SELECT FROM conversation_members m
            WHERE m.conversation_id = w.conversation_id AND m.user_id = p_user AND m.role >= 'admin'))
       FOR NO KEY UPDATE OF w
$$;
