-- A page of the audit trail for an administrator, newest first, without what the filter excludes: {actor, action,
-- target_type, target_id, from, to, before (a position), limit}.
-- The statement is made for the filter, because a prepared one would not use its index.
-- SECURITY DEFINER: no other role may read audit_logs. The server lets administrators only call it, and audits each
-- call in the same transaction.

CREATE FUNCTION read_audit(p jsonb) RETURNS SETOF jsonb LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT AS $$
DECLARE
    v_where text := 'true';
    v_order text := 'x.position DESC';
BEGIN
    -- Both orders are the same. This one is that of the index on users.
    IF p ? 'actor' THEN
        v_order := 'x.created_at DESC, x.position DESC';
        v_where := coalesce('(x.created_at, x.position) < (SELECT y.created_at, y.position FROM audit_logs y '
                            'WHERE y.position = ' || (p ->> 'before')::bigint || ')', 'true');
    END IF;
    v_where := v_where
        || coalesce(' AND x.user_id = ' || (p ->> 'actor')::bigint, '')
        || coalesce(' AND x.action = ' || quote_literal(p ->> 'action'), '')
        || coalesce(' AND x.target_type = ' || quote_literal(p ->> 'target_type'), '')
        || coalesce(' AND x.target_id = ' || (p ->> 'target_id')::bigint, '')
        || coalesce(' AND x.created_at >= ' || quote_literal((p ->> 'from')::timestamptz), '')
        || coalesce(' AND x.created_at < ' || quote_literal((p ->> 'to')::timestamptz), '')
        || coalesce(' AND x.position < ' || (p ->> 'before')::bigint, '');
    RETURN QUERY EXECUTE format($q$
        SELECT jsonb_build_object('position', x.position, 'created_at', rfc3339(x.created_at), 'user_id', x.user_id,
                   'action', x.action, 'conversation_id', conversation_text_id(x.conversation_id),
                   'target', CASE WHEN x.target_id IS NOT NULL
                                  THEN jsonb_build_object('type', x.target_type, 'id', x.target_id) END,
                   'session_id', x.session_id, 'ip_address', x.ip_address, 'device', x.device, 'reason', x.reason,
                   'details', x.details, 'erased', x.salt IS NULL, 'hash', encode(x.hash, 'hex'))
          FROM audit_logs x WHERE %s ORDER BY %s LIMIT %s$q$, v_where, v_order, (p -> 'limit')::bigint);
END $$;

REVOKE ALL ON FUNCTION read_audit(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION read_audit(jsonb) TO chat_writer;
