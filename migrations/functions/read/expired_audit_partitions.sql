-- The partitions of audit_logs whose months ended before a time, when the last of them ended, and the last row in them:
-- its position and its hash, NULL if they are empty. Only the owner can execute it.

CREATE FUNCTION expired_audit_partitions(
    p_before timestamptz, OUT names text[], OUT ended_at timestamptz, OUT size bigint, OUT root bytea)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT array_agg(x.name ORDER BY x.name), max(x.until) INTO names, ended_at
      FROM (SELECT c.relname::text AS name,
                   (to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC' AS until
              FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'public.audit_logs'::regclass AND c.relname ~ '^audit_logs_\d{4}_\d{2}$') x
     WHERE x.until <= p_before;
    IF EXISTS (SELECT FROM audit_logs_default x WHERE x.created_at < ended_at) THEN
        RAISE EXCEPTION 'audit_logs_default has rows of months to be dropped; make_audit_partitions moves them';
    END IF;
    SELECT x.position, x.hash INTO size, root FROM audit_logs x
     WHERE x.created_at < ended_at ORDER BY x.position DESC LIMIT 1;
END $$;
