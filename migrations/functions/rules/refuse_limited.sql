-- Refuses with rate_limited, with the time after which a retry can succeed. The details are those of the wire contract:
-- {limiter, scope, limit, window_ms}. apply_mutations reads them from the field of the constraint.

CREATE FUNCTION refuse_limited(p_details jsonb, reason text, p_until timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'VZ001', MESSAGE = 'rate_limited', DETAIL = reason, CONSTRAINT = p_details::text,
        HINT = (extract(epoch FROM p_until - now()) * 1000)::bigint;
END $$;
