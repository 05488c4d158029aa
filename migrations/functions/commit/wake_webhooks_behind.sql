-- Makes the job due of webhooks that have something to send, also if their notification was lost: of the next p_most
-- active ones after p_after. Returns the last one that was looked at; null after the last of all. A job that has failed
-- keeps its pause.
-- Locks: the jobs' rows, in the order of the webhooks.

CREATE FUNCTION wake_webhooks_behind(p_after bigint, p_most bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_webhooks bigint[];
BEGIN
    SELECT array_agg(x.id ORDER BY x.id) INTO v_webhooks FROM (
        SELECT w.id FROM webhooks w WHERE w.id > p_after AND w.disabled_at IS NULL ORDER BY w.id LIMIT p_most) x;
    INSERT INTO jobs AS j (kind, subject, owner_id)
    SELECT 'send_webhooks', w.id::text, w.owner_id FROM webhooks w
     WHERE w.id = ANY (v_webhooks) AND (w.paused_until IS NULL OR w.paused_until <= now())
       AND (EXISTS (SELECT FROM webhook_cursors k JOIN conversations c ON c.id = k.conversation_id
                      JOIN conversation_members m ON m.conversation_id = k.conversation_id AND m.user_id = w.owner_id
                     WHERE k.webhook_id = w.id AND c.last_seq > k.seq)
            OR EXISTS (SELECT FROM waiting_webhook_deliveries(w.id) d WHERE d.due_at <= now())
            OR w.conversation_id IS NULL AND EXISTS (
               SELECT FROM conversation_members m WHERE m.user_id = w.owner_id AND NOT EXISTS (
                   SELECT FROM webhook_cursors k
                    WHERE k.webhook_id = w.id AND k.conversation_id = m.conversation_id)))
     ORDER BY w.id
    ON CONFLICT (kind, subject) DO UPDATE SET next_at = now()
     WHERE j.leased_until IS NOT NULL OR (j.next_at > now() AND j.last_error IS NULL);
    RETURN CASE WHEN cardinality(v_webhooks) = p_most THEN v_webhooks[p_most] END;
END $$;
