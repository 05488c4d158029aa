-- Makes the job due of each webhook that follows one of these conversations. A job that has failed keeps its pause.
-- Locks: the jobs' rows, in the order of the webhooks.

CREATE FUNCTION wake_webhooks(p_conversations bigint[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO jobs AS j (kind, subject, owner_id)
    SELECT 'send_webhooks', w.id::text, w.owner_id FROM webhooks w
     WHERE w.id IN (SELECT k.webhook_id FROM webhook_cursors k WHERE k.conversation_id = ANY (p_conversations))
       AND w.disabled_at IS NULL AND (w.paused_until IS NULL OR w.paused_until <= now())
     ORDER BY w.id
    ON CONFLICT (kind, subject) DO UPDATE SET next_at = now()
     WHERE j.leased_until IS NOT NULL OR (j.next_at > now() AND j.last_error IS NULL)
$$;
