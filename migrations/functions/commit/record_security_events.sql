-- Records what the detectors found, an array of {severity, event_type, user_id, session_id, ip_address, details,
-- dedupe_key}, and how far they have read the audit trail. What was found within the last hour under the same key is
-- counted and gets no row of its own. Old rows are removed, a few at a time.
-- A finding with a `response` has it applied to its account (respond_to_event). Returns the sessions that this revoked,
-- and those that an earlier finding of the same event revoked: that answer may have been lost.
-- Locks: an advisory lock per key, so that several servers make one row of one attack; the rows; what respond_to_event
-- locks; security_progress; audit_head last.

CREATE FUNCTION record_security_events(p_found jsonb, p_position bigint) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
DECLARE
    r security_events;
    v_given jsonb;
    v_event bigint;
    v_audit jsonb := '[]';
BEGIN
    -- In one order, or two servers could wait for each other.
    FOR v_given IN SELECT f.given FROM jsonb_array_elements(p_found) AS f (given) ORDER BY f.given ->> 'dedupe_key' LOOP
        r := jsonb_populate_record(NULL::security_events, v_given);
        PERFORM pg_advisory_xact_lock(hashtext('security_events'), hashtext(r.dedupe_key));
        UPDATE security_events x SET occurrences = x.occurrences + 1, last_seen_at = now()
         WHERE x.dedupe_key = r.dedupe_key AND x.created_at > now() - interval '1 hour'
        RETURNING x.id INTO v_event;
        IF NOT FOUND THEN
            INSERT INTO security_events (severity, event_type, user_id, session_id, ip_address, details, dedupe_key)
            VALUES (r.severity, r.event_type, r.user_id, r.session_id, r.ip_address, r.details, r.dedupe_key)
            RETURNING id INTO v_event;
        END IF;
        v_audit := v_audit || respond_to_event(v_event, v_given);
        RETURN QUERY SELECT s.id FROM account_responses x JOIN sessions s ON s.user_id = x.user_id
                      WHERE x.event_id = v_event AND x.response = 'challenge' AND s.revoked_at = x.begins_at;
    END LOOP;
    UPDATE security_progress x SET position = p_position WHERE x.position < p_position;
    DELETE FROM security_events x WHERE x.id IN (
        SELECT y.id FROM security_events y WHERE y.created_at < now() - interval '400 days'
         ORDER BY y.created_at LIMIT 100);
    IF v_audit <> '[]' THEN
        PERFORM append_audit(v_audit);
    END IF;
END $$;
