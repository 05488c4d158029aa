-- Takes the next events of a webhook from the logs of its conversations: p_most of each log, while fewer than p_pending
-- deliveries wait. Returns whether there may be more.
-- The rows that a statement reads are committed together with the last_seq that the loop has read before, or earlier.
-- Locks: the webhook's row, so that one transaction at a time moves its cursors.

CREATE FUNCTION queue_webhook_events(p_webhook bigint, p_most bigint, p_pending bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    w         webhooks;
    k         record;
    v_free    bigint;
    v_logs    bigint := 0;
    v_through bigint;
    v_added   bigint;
    v_more    boolean := false;
BEGIN
    SELECT x.* INTO w FROM webhooks x WHERE x.id = p_webhook AND x.disabled_at IS NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF w.conversation_id IS NULL THEN
        -- Conversations that the owner has joined since, from the event of the first time on.
        INSERT INTO webhook_cursors (webhook_id, conversation_id, seq)
        SELECT w.id, m.conversation_id, greatest(m.joined_seq - 1, 0) FROM conversation_members m
         WHERE m.user_id = w.owner_id
        ON CONFLICT DO NOTHING;
    END IF;
    SELECT p_pending - count(*) INTO v_free FROM (
        SELECT FROM webhook_deliveries d WHERE d.webhook_id = w.id AND d.state = 'pending' LIMIT p_pending) waiting;
    FOR k IN
        -- An owner who has rejoined gets nothing of their absence.
        SELECT x.conversation_id, greatest(x.seq, m.joined_seq - 1) AS seq, c.last_seq FROM webhook_cursors x
          JOIN conversations c ON c.id = x.conversation_id
          JOIN conversation_members m ON m.conversation_id = x.conversation_id AND m.user_id = w.owner_id
         WHERE x.webhook_id = w.id AND c.last_seq > x.seq
         -- Those with few events first, so that a busy one does not take every free place.
         ORDER BY c.last_seq - x.seq, x.conversation_id LIMIT 100
    LOOP
        v_logs := v_logs + 1;
        EXIT WHEN v_free <= 0;
        v_through := least(k.last_seq, k.seq + least(p_most, v_free));
        v_more := v_more OR v_through < k.last_seq;
        INSERT INTO webhook_deliveries (webhook_id, conversation_id, seq, kind)
        SELECT w.id, k.conversation_id, e.seq, e.kind
          FROM logged_events(k.conversation_id, k.seq + 1, v_through, w.events) e
         ORDER BY e.seq
        ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS v_added = ROW_COUNT;
        v_free := v_free - v_added;
        UPDATE webhook_cursors x SET seq = v_through
         WHERE x.webhook_id = w.id AND x.conversation_id = k.conversation_id;
    END LOOP;
    RETURN (v_more OR v_logs = 100) AND v_free > 0;
END $$;
