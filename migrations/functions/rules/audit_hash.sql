-- The hash of an audit row. created_at is in microseconds since 1970.

CREATE FUNCTION audit_hash(r audit_logs) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT sha256(audit_canonical('veza-audit-v1', r.position::text,
        (extract(epoch FROM r.created_at) * 1000000)::bigint::text, r.user_id::text, r.action, r.target_type,
        r.target_id::text, r.conversation_id::text, r.session_id::text, encode(r.commitment, 'hex'),
        encode(r.previous_hash, 'hex')))
$$;
