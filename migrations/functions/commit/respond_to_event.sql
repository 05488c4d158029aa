-- Responds to the account of a security event as configured: p_found has `response` (slow_down, mute or challenge) and
-- `response_s`, its seconds. Returns the rows for the audit trail.
-- One event has one response at a time. What an administrator has ended stays ended for this event, and a challenge
-- happens once per event.
-- Locks: the user's row and, for a challenge, those of the sessions; the caller holds the advisory lock of the event.

CREATE FUNCTION respond_to_event(p_event bigint, p_found jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    v_user     bigint := (p_found ->> 'user_id')::bigint;
    v_response text := p_found ->> 'response';
    v_ends     timestamptz := now() + make_interval(secs => (p_found ->> 'response_s')::bigint);
BEGIN
    IF v_response IS NULL OR v_user IS NULL OR EXISTS (
        SELECT FROM account_responses x
         WHERE x.event_id = p_event AND (x.ends_at > now() OR x.ended_by IS NOT NULL OR x.response = 'challenge'))
       -- The key names the stolen session, so a spent token of that session signs its owner out only once.
       OR p_found ->> 'event_type' = 'refresh_token_reuse' AND EXISTS (
        SELECT FROM security_events e JOIN account_responses x ON x.event_id = e.id
         WHERE e.dedupe_key = p_found ->> 'dedupe_key') THEN
        RETURN '[]';
    END IF;
    INSERT INTO account_responses (user_id, response, reason, event_id, ends_at)
    SELECT u.id, v_response, p_found ->> 'event_type', p_event, v_ends FROM users u WHERE u.id = v_user AND u.is_active;
    IF NOT FOUND THEN
        RETURN '[]';
    ELSIF v_response = 'mute' THEN
        UPDATE users u SET muted_until = greatest(u.muted_until, v_ends) WHERE u.id = v_user;
    ELSIF v_response = 'challenge' THEN
        UPDATE sessions s SET revoked_at = now() WHERE s.user_id = v_user AND s.revoked_at IS NULL;
    END IF;
    RETURN jsonb_build_array(jsonb_build_object(
        'action', 'respond_to_event', 'target_type', 'user', 'target_id', v_user, 'reason', p_found ->> 'event_type',
        'details', jsonb_build_object('event_id', p_event, 'response', v_response, 'ends_at', rfc3339(v_ends))));
END $$;
