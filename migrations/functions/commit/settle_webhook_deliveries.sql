-- Records attempts at deliveries of a webhook, and the state of its circuit breaker: p_failures attempts in a row have
-- failed, and nothing is sent for p_pause_s seconds. p_disabled disables the webhook, for this reason.
-- A receiver that is back after a pause gets everything that waits at once.
-- Locks: the webhook's row, then those of its deliveries.

CREATE FUNCTION settle_webhook_deliveries(
    p_webhook bigint, p_conversation bigint[], p_seq bigint[], p_state text[], p_pause_s double precision[],
    p_attempt jsonb[], p_failures integer, p_paused_s double precision, p_disabled text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_was_paused boolean;
BEGIN
    SELECT w.paused_until IS NOT NULL INTO v_was_paused FROM webhooks w WHERE w.id = p_webhook FOR NO KEY UPDATE;
    UPDATE webhook_deliveries d
       SET state = a.state, attempts = d.attempts + 1,
           next_at = now() + make_interval(secs => a.pause_s),
           settled_at = CASE WHEN a.state <> 'pending' THEN now() END,
           log = CASE WHEN jsonb_array_length(d.log) >= 10 THEN d.log - 0 ELSE d.log END
                 || jsonb_build_array(a.attempt)
      FROM unnest(p_conversation, p_seq, p_state, p_pause_s, p_attempt)
           AS a (conversation_id, seq, state, pause_s, attempt)
     WHERE d.webhook_id = p_webhook AND d.conversation_id = a.conversation_id AND d.seq = a.seq
       AND d.state = 'pending';
    UPDATE webhooks w
       SET failures = p_failures,
           paused_until = CASE WHEN p_paused_s > 0 THEN now() + make_interval(secs => p_paused_s) END,
           last_success_at = CASE WHEN 'delivered' = ANY (p_state) THEN now() ELSE w.last_success_at END,
           last_failure_at = CASE WHEN p_failures > 0 THEN now() ELSE w.last_failure_at END,
           disabled_at = CASE WHEN p_disabled IS NOT NULL THEN now() ELSE w.disabled_at END,
           disabled_reason = coalesce(p_disabled, w.disabled_reason)
     WHERE w.id = p_webhook;
    IF v_was_paused AND p_failures = 0 THEN
        UPDATE webhook_deliveries d SET next_at = now()
         WHERE d.webhook_id = p_webhook AND d.state = 'pending' AND d.next_at > now();
    END IF;
END $$;
