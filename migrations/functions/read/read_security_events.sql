-- A page of the security events for an administrator, newest first, without what the filter excludes: {severity,
-- event_type, user_id, from, to, before (an id), limit}. The server lets administrators only call it, and audits each
-- call.

CREATE FUNCTION read_security_events(p jsonb) RETURNS SETOF jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('id', x.id, 'created_at', rfc3339(x.created_at), 'last_seen_at', rfc3339(x.last_seen_at),
               'severity', x.severity, 'event_type', x.event_type, 'user_id', x.user_id, 'session_id', x.session_id,
               'ip_address', x.ip_address, 'details', x.details, 'occurrences', x.occurrences, 'responses', (
                   SELECT coalesce(jsonb_agg(jsonb_build_object('response', y.response,
                              'begins_at', rfc3339(y.begins_at), 'ends_at', rfc3339(y.ends_at), 'ended_by', y.ended_by)
                              ORDER BY y.id), '[]')
                     FROM account_responses y WHERE y.event_id = x.id))
      FROM security_events x
     WHERE (p ->> 'severity' IS NULL OR x.severity = p ->> 'severity')
       AND (p ->> 'event_type' IS NULL OR x.event_type = p ->> 'event_type')
       AND (p -> 'user_id' IS NULL OR x.user_id = (p -> 'user_id')::bigint)
       AND (p ->> 'from' IS NULL OR x.created_at >= (p ->> 'from')::timestamptz)
       AND (p ->> 'to' IS NULL OR x.created_at < (p ->> 'to')::timestamptz)
       AND (p -> 'before' IS NULL OR x.id < (p -> 'before')::bigint)
     ORDER BY x.id DESC LIMIT (p -> 'limit')::bigint
$$;
