-- The deliveries of a webhook that wait, and when each can be tried. Those of an ordered webhook are not tried before
-- the first one that waits in their conversation, and `place` gives their order.
-- Locks: none. The lease of the webhook's job keeps other servers from sending them.

CREATE FUNCTION waiting_webhook_deliveries(p_webhook bigint)
RETURNS TABLE (conversation_id bigint, seq bigint, attempts integer, due_at timestamptz, place bigint)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    IF (SELECT w.is_ordered FROM webhooks w WHERE w.id = p_webhook) THEN
        RETURN QUERY
        SELECT d.conversation_id, d.seq, d.attempts, first_value(d.next_at) OVER log, row_number() OVER log
          FROM webhook_deliveries d WHERE d.webhook_id = p_webhook AND d.state = 'pending'
        WINDOW log AS (PARTITION BY d.conversation_id ORDER BY d.seq);
    ELSE
        RETURN QUERY
        SELECT d.conversation_id, d.seq, d.attempts, d.next_at, 0::bigint FROM webhook_deliveries d
         WHERE d.webhook_id = p_webhook AND d.state = 'pending';
    END IF;
END $$;
