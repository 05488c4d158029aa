-- The deliveries of a webhook that are due, p_most at most. Those of an ordered webhook are in the order of seq, and
-- none is due before the first one that waits in its conversation.
-- Locks: none. The lease of the webhook's job keeps other servers from sending them.

CREATE FUNCTION due_webhook_deliveries(p_webhook bigint, p_most bigint)
RETURNS TABLE (conversation_id bigint, seq bigint, kind text, attempts integer)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    IF (SELECT w.is_ordered FROM webhooks w WHERE w.id = p_webhook) THEN
        RETURN QUERY
        SELECT x.conversation_id, x.seq, x.kind, x.attempts FROM (
            SELECT d.*, first_value(d.next_at) OVER log AS head_at, row_number() OVER log AS place
              FROM webhook_deliveries d WHERE d.webhook_id = p_webhook AND d.state = 'pending'
            WINDOW log AS (PARTITION BY d.conversation_id ORDER BY d.seq)) x
         WHERE x.head_at <= now() ORDER BY x.place, x.conversation_id LIMIT p_most;
    ELSE
        RETURN QUERY
        SELECT d.conversation_id, d.seq, d.kind, d.attempts FROM webhook_deliveries d
         WHERE d.webhook_id = p_webhook AND d.state = 'pending' AND d.next_at <= now()
         ORDER BY d.next_at, d.conversation_id, d.seq LIMIT p_most;
    END IF;
END $$;
