-- Makes the job due of each webhook that has a cursor in one of these conversations. With null, of each webhook that is
-- behind or has a delivery that is due, also if its notification was lost; and returns the conversations of all webhooks.
-- A job that has failed keeps its pause.
-- Locks: the jobs' rows, in the order of the webhooks.

CREATE FUNCTION wake_webhooks(p_conversations bigint[]) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO jobs AS j (kind, subject, owner_id)
    SELECT 'send_webhooks', w.id::text, w.owner_id FROM webhooks w
     WHERE w.disabled_at IS NULL AND (w.paused_until IS NULL OR w.paused_until <= now())
       AND CASE WHEN p_conversations IS NOT NULL THEN EXISTS (
                SELECT FROM webhook_cursors k WHERE k.webhook_id = w.id AND k.conversation_id = ANY (p_conversations))
           ELSE EXISTS (
                SELECT FROM webhook_cursors k JOIN conversations c ON c.id = k.conversation_id
                  JOIN conversation_members m ON m.conversation_id = k.conversation_id AND m.user_id = w.owner_id
                 WHERE k.webhook_id = w.id AND c.last_seq > k.seq)
             OR EXISTS (SELECT FROM waiting_webhook_deliveries(w.id) d WHERE d.due_at <= now())
             OR w.conversation_id IS NULL AND EXISTS (
                SELECT FROM conversation_members m WHERE m.user_id = w.owner_id AND NOT EXISTS (
                    SELECT FROM webhook_cursors k
                     WHERE k.webhook_id = w.id AND k.conversation_id = m.conversation_id))
           END
     ORDER BY w.id
    ON CONFLICT (kind, subject) DO UPDATE SET next_at = now()
     WHERE j.leased_until IS NOT NULL OR (j.next_at > now() AND j.last_error IS NULL);
    IF p_conversations IS NULL THEN
        RETURN QUERY SELECT DISTINCT k.conversation_id FROM webhook_cursors k JOIN webhooks w ON w.id = k.webhook_id
         WHERE w.disabled_at IS NULL;
    END IF;
END $$;
