-- Rows of the audit trail after a position, for the detectors: without address, device and reason.
-- SECURITY DEFINER: no other role may read audit_logs.

CREATE FUNCTION audit_tail(p_after bigint, p_limit bigint)
RETURNS TABLE (chain_position bigint, user_id bigint, action text, target_id bigint, conversation_id bigint,
               details jsonb, hash bytea, previous_hash bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT x.position, x.user_id, x.action, x.target_id, x.conversation_id, x.details, x.hash, x.previous_hash
      FROM audit_logs x WHERE x.position > p_after ORDER BY x.position LIMIT p_limit
$$;

REVOKE ALL ON FUNCTION audit_tail(bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_tail(bigint, bigint) TO chat_writer;
