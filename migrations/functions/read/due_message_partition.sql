-- Whether the next range of ids is due: the present one was begun p_days or more ago and has messages, fewer than 64
-- ranges are there, and every installed rule set notes the partitions of conversations (message_span). Returns where
-- the next range begins, and where the first partition must end before that, NULL if it has an end. No row otherwise.

CREATE FUNCTION due_message_partition(p_days double precision, OUT first_id bigint, OUT first_end bigint)
RETURNS SETOF record LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_last   bigint := (SELECT CASE WHEN s.is_called THEN s.last_value ELSE s.last_value - 1 END FROM message_ids s);
    v_opened record;
BEGIN
    SELECT x.first_id, x.opened_at INTO STRICT v_opened FROM message_partitions x WHERE x.closed_at IS NULL;
    IF v_opened.opened_at > now() - make_interval(secs => 86400 * p_days)
       OR v_last < greatest(v_opened.first_id, 1) OR (SELECT count(*) FROM message_partitions) >= 64
       OR EXISTS (SELECT FROM rule_sets x WHERE NOT x.files ? 'read/message_span.sql') THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM pg_class c WHERE c.oid = to_regclass('public.messages_0')
                  AND pg_get_expr(c.relpartbound, c.oid) LIKE '%MAXVALUE%') THEN
        -- An import can have kept larger ids than the sequence gave. What is left of the range is enough for the
        -- messages until the partition has its end.
        first_end := message_partition(greatest(v_last, (SELECT max(m.id) FROM messages m)) + 5000000000) + 10000000000;
        first_id := first_end;
    ELSE
        first_id := message_partition(v_last) + 10000000000;
    END IF;
    RETURN NEXT;
END $$;
