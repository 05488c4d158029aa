-- Whether the next range of ids is due: the present one began at least p_days ago and has messages. Returns the first
-- ids of the present range and of the next one. No row if it is not due. Without a next id if there are 64 ranges, the
-- most there can be: only a legal hold keeps so many.

CREATE FUNCTION due_message_partition(p_days double precision, OUT present_id bigint, OUT next_id bigint)
RETURNS SETOF record LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_last   bigint := (SELECT CASE WHEN s.is_called THEN s.last_value ELSE s.last_value - 1 END FROM message_ids s);
    v_opened timestamptz;
BEGIN
    SELECT x.first_id, x.opened_at INTO STRICT present_id, v_opened FROM message_partitions x WHERE x.closed_at IS NULL;
    IF v_opened > now() - make_interval(secs => 86400 * p_days) OR v_last < greatest(present_id, 1) THEN
        RETURN;
    END IF;
    IF (SELECT count(*) FROM message_partitions) >= 64 THEN
        RETURN NEXT;
        RETURN;
    END IF;
    -- An attempt that was cut short may have divided the search index already.
    SELECT min(x.first_id) INTO next_id
      FROM (SELECT substring(pg_get_expr(c.relpartbound, c.oid) FROM 'FROM \(''(\d+)''\)')::bigint AS first_id
              FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'public.message_search'::regclass) x
     WHERE x.first_id > present_id;
    IF next_id IS NULL THEN
        -- An import can have kept larger ids than the sequence gave, in the first range only. The messages until the
        -- partition has its end need ids below it: 5,000,000,000 are enough.
        next_id := greatest(v_last + 5000000000,
                            CASE WHEN present_id = 0 THEN (SELECT max(m.id) FROM messages m) END);
        next_id := (next_id / 10000000000 + 1) * 10000000000;
    END IF;
    RETURN NEXT;
END $$;
