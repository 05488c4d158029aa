-- Refuses like refuse(), with the time after which a retry can succeed; a year at most.

CREATE FUNCTION refuse_until(code text, reason text, p_until timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'VZ001', MESSAGE = code, DETAIL = reason,
        HINT = (extract(epoch FROM least(p_until - now(), interval '1 year')) * 1000)::bigint;
END $$;
