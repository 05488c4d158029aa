-- A webhook that a user may manage: one of their own, or one of a conversation that they administer. No row otherwise.
-- Locks: none. What changes the webhook calls locked_webhook.

CREATE FUNCTION managed_webhook(p_user bigint, p_webhook bigint) RETURNS SETOF webhooks LANGUAGE sql STABLE AS $$
    SELECT w.* FROM webhooks w
     WHERE w.id = p_webhook AND (w.owner_id = p_user OR EXISTS (
           SELECT FROM conversation_members m
            WHERE m.conversation_id = w.conversation_id AND m.user_id = p_user AND m.role >= 'admin'))
$$;
