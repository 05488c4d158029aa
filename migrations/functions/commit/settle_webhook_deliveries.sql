-- Records attempts at deliveries of a webhook: the state of each, and the pause before its next attempt. p_failures
-- attempts in a row have failed by now, and nothing is sent for p_breaker_s seconds. p_disabled disables the webhook,
-- for this reason. These three do not count if somebody has changed the webhook since p_version. Returns how many other
-- deliveries are given up.
-- While the circuit breaker is open, deliveries are tried one at a time. So those that have waited for four days,
-- longer than ten attempts take, are given up. A receiver that is back gets what waits at once. What has failed four
-- times keeps its pauses, so that a receiver that fails again and again does not use up ten attempts within minutes.
-- Locks: the webhook's row, then those of its deliveries.

CREATE FUNCTION settle_webhook_deliveries(
    p_webhook bigint, p_conversation bigint[], p_seq bigint[], p_state text[], p_retry_s double precision[],
    p_attempt jsonb[], p_version bigint, p_failures integer, p_breaker_s double precision, p_disabled text)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    c_open CONSTANT integer := 5;
    v_failures integer;
    v_given_up bigint := 0;
BEGIN
    SELECT w.failures INTO v_failures FROM webhooks w WHERE w.id = p_webhook FOR NO KEY UPDATE;
    UPDATE webhook_deliveries d
       SET state = a.state, attempts = d.attempts + CASE WHEN a.state = 'withdrawn' THEN 0 ELSE 1 END,
           next_at = now() + make_interval(secs => a.retry_s),
           settled_at = CASE WHEN a.state <> 'pending' THEN now() END,
           log = CASE WHEN jsonb_array_length(d.log) >= 10 THEN d.log - 0 ELSE d.log END
                 || jsonb_build_array(a.attempt)
      FROM unnest(p_conversation, p_seq, p_state, p_retry_s, p_attempt)
           AS a (conversation_id, seq, state, retry_s, attempt)
     WHERE d.webhook_id = p_webhook AND d.conversation_id = a.conversation_id AND d.seq = a.seq
       AND d.state = 'pending';
    UPDATE webhooks w
       SET failures = p_failures,
           paused_until = CASE WHEN p_breaker_s > 0 THEN now() + make_interval(secs => p_breaker_s) END,
           last_success_at = CASE WHEN 'delivered' = ANY (p_state) THEN now() ELSE w.last_success_at END,
           last_failure_at = CASE WHEN p_failures > 0 THEN now() ELSE w.last_failure_at END,
           disabled_at = CASE WHEN p_disabled IS NOT NULL THEN now() ELSE w.disabled_at END,
           disabled_reason = coalesce(p_disabled, w.disabled_reason)
     WHERE w.id = p_webhook AND w.version = p_version;
    IF NOT FOUND THEN
        RETURN 0;
    ELSIF p_failures >= c_open THEN
        UPDATE webhook_deliveries d
           SET state = 'dead', settled_at = now(), log = d.log || jsonb_build_array(jsonb_build_object(
               'at', rfc3339(now()), 'error', 'the receiver has failed for four days'))
         WHERE d.webhook_id = p_webhook AND d.state = 'pending' AND d.queued_at < now() - interval '4 days';
        GET DIAGNOSTICS v_given_up = ROW_COUNT;
    ELSIF v_failures >= c_open AND p_failures = 0 THEN
        UPDATE webhook_deliveries d SET next_at = now()
         WHERE d.webhook_id = p_webhook AND d.state = 'pending' AND d.next_at > now() AND d.attempts < 4;
    END IF;
    RETURN v_given_up;
END $$;
