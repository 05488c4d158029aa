-- Sends events of a webhook again: those of its delivery log between two times, or those of a conversation between two
-- positions of its log. p_row begins the audit row. Returns how many; null if the user may not manage the webhook.
-- Locks: the webhook's row, then the end of the audit trail.

CREATE FUNCTION replay_webhook(
    p_user bigint, p_webhook bigint, p_from timestamptz, p_to timestamptz, p_conversation bigint, p_from_seq bigint,
    p_to_seq bigint, p_row jsonb)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    w webhooks;
    v_most CONSTANT bigint := 10000;
    v_count bigint;
BEGIN
    SELECT * INTO w FROM managed_webhook(p_user, p_webhook);
    IF NOT FOUND THEN
        RETURN NULL;
    ELSIF w.disabled_at IS NOT NULL THEN
        PERFORM refuse('conflict', 'The webhook is disabled. Enable it before you replay events.');
    END IF;
    IF p_conversation IS NULL THEN
        UPDATE webhook_deliveries d SET state = 'pending', attempts = 0, next_at = now(), settled_at = NULL
         WHERE d.webhook_id = p_webhook AND d.created_at >= p_from AND d.created_at <= p_to AND d.state <> 'pending';
    ELSE
        -- Events after the cursor are delivered anyway.
        INSERT INTO webhook_deliveries AS d (webhook_id, conversation_id, seq, kind)
        SELECT w.id, p_conversation, e.seq, e.kind
          FROM webhook_cursors k, LATERAL (
            SELECT m.seq, 'message_created' AS kind FROM messages m
             WHERE m.conversation_id = p_conversation AND m.seq BETWEEN p_from_seq AND least(p_to_seq, k.seq)
            UNION ALL
            SELECT x.seq, x.kind FROM conversation_events x
             WHERE x.conversation_id = p_conversation AND x.seq BETWEEN p_from_seq AND least(p_to_seq, k.seq)) e
         WHERE k.webhook_id = w.id AND k.conversation_id = p_conversation
           AND (w.events = '{}' OR e.kind = ANY (w.events))
         ORDER BY e.seq
        ON CONFLICT (webhook_id, conversation_id, seq)
            DO UPDATE SET state = 'pending', attempts = 0, next_at = now(), settled_at = NULL;
    END IF;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    IF v_count > v_most THEN
        PERFORM refuse('too_large', format(
            'The range has %s events, and a replay sends %s at most. Choose a smaller range.', v_count, v_most));
    END IF;
    PERFORM append_audit(jsonb_build_array(p_row || jsonb_build_object(
        'conversation_id', w.conversation_id, 'target_type', 'webhook', 'target_id', p_webhook,
        'details', jsonb_build_object('after', jsonb_build_object('replayed', v_count)))));
    RETURN v_count;
END $$;
