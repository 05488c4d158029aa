-- A page of legal holds, the newest first. The read is a row of the audit trail.
-- Locks: the end of the audit trail.

CREATE FUNCTION read_holds(p_before bigint, p_limit bigint, p_row jsonb) RETURNS SETOF jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM append_audit(jsonb_build_array(p_row));
    RETURN QUERY SELECT hold_json(h) FROM legal_holds h WHERE h.id < p_before ORDER BY h.id DESC LIMIT p_limit;
END $$;
