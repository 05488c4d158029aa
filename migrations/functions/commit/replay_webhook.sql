-- Sends events of a webhook again: those of its delivery log between two times, or those of a conversation between two
-- positions of its log. What still waits is left as it is. p_row begins the audit row. Returns how many; null if the
-- user may not manage the webhook. Only its owner can replay.
-- Locks: the webhook's row, then the end of the audit trail.

CREATE FUNCTION replay_webhook(
    p_user bigint, p_webhook bigint, p_from timestamptz, p_to timestamptz, p_conversation bigint, p_from_seq bigint,
    p_to_seq bigint, p_row jsonb)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    c_most CONSTANT bigint := 10000;
    w webhooks;
    v_conversations bigint[];
    v_seqs  bigint[];
    v_kinds text[];
    v_waiting bigint;
BEGIN
    SELECT * INTO w FROM locked_webhook(p_user, p_webhook);
    IF NOT FOUND THEN
        RETURN NULL;
    ELSIF w.owner_id <> p_user THEN
        PERFORM refuse('forbidden', 'Only the owner of a webhook can replay its events.');
    ELSIF w.disabled_at IS NOT NULL THEN
        PERFORM refuse('conflict', 'The webhook is disabled. Enable it before you replay events.');
    END IF;
    IF p_conversation IS NULL THEN
        SELECT array_agg(x.conversation_id), array_agg(x.seq), array_agg(x.kind)
          INTO v_conversations, v_seqs, v_kinds
          FROM (SELECT d.conversation_id, d.seq, d.kind FROM webhook_deliveries d
                 WHERE d.webhook_id = p_webhook AND d.created_at >= p_from AND d.created_at <= p_to
                   AND d.state <> 'pending'
                 ORDER BY d.created_at LIMIT c_most + 1) x;
    ELSE
        -- Events after the cursor are delivered anyway.
        SELECT array_agg(p_conversation), array_agg(e.seq), array_agg(e.kind)
          INTO v_conversations, v_seqs, v_kinds
          FROM webhook_cursors k,
               LATERAL logged_events(p_conversation, p_from_seq, least(p_to_seq, k.seq), w.events) e
         WHERE k.webhook_id = w.id AND k.conversation_id = p_conversation
           AND NOT EXISTS (SELECT FROM webhook_deliveries d WHERE d.webhook_id = w.id
                              AND d.conversation_id = p_conversation AND d.seq = e.seq AND d.state = 'pending');
    END IF;
    IF cardinality(v_seqs) > c_most THEN
        PERFORM refuse('too_large',
            format('The range has more than %s events. Choose a smaller range.', c_most));
    END IF;
    SELECT count(*) INTO v_waiting FROM webhook_deliveries d WHERE d.webhook_id = p_webhook AND d.state = 'pending';
    IF v_waiting + coalesce(cardinality(v_seqs), 0) > c_most THEN
        PERFORM refuse('conflict', format(
            '%s deliveries wait already, and %s can wait. Try again when the receiver has caught up.',
            v_waiting, c_most));
    END IF;
    INSERT INTO webhook_deliveries AS d (webhook_id, conversation_id, seq, kind)
    SELECT w.id, x.conversation_id, x.seq, x.kind
      FROM unnest(v_conversations, v_seqs, v_kinds) AS x (conversation_id, seq, kind)
     ORDER BY x.conversation_id, x.seq
    ON CONFLICT (webhook_id, conversation_id, seq)
        DO UPDATE SET state = 'pending', attempts = 0, next_at = now(), queued_at = now(), settled_at = NULL;
    PERFORM append_audit(jsonb_build_array(p_row || jsonb_build_object(
        'conversation_id', w.conversation_id, 'target_type', 'webhook', 'target_id', p_webhook,
        'details', jsonb_build_object('after', jsonb_build_object('replayed', coalesce(cardinality(v_seqs), 0))))));
    RETURN coalesce(cardinality(v_seqs), 0);
END $$;
