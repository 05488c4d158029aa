-- Decides that the partition of the next range of ids after p_after goes: one that was closed p_days or more ago, and
-- whose messages are all before the beginnings of their histories, in conversations that no legal hold keeps. A range
-- that was decided before comes again until nothing of it is left, also when p_days is NULL. Returns its ids, and what
-- of its tables is there (partition_state). No row if there is none.
-- It needs the rights of the owner, in a transaction with app.data_rights.
-- Locks: legal_holds, SHARE, so that no hold comes between the look and the decision; the row of message_partitions.

CREATE FUNCTION drop_message_partition(p_after bigint, p_days double precision)
RETURNS TABLE (first_id bigint, next_id bigint, messages_state text, search_state text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    r record;
BEGIN
    LOCK TABLE legal_holds IN SHARE MODE;
    FOR r IN SELECT x.first_id, x.dropped_at, lead(x.first_id) OVER (ORDER BY x.first_id) AS next_id, x.closed_at
               FROM message_partitions x ORDER BY x.first_id
    LOOP
        CONTINUE WHEN r.first_id <= p_after OR r.next_id IS NULL;
        IF r.dropped_at IS NULL THEN
            CONTINUE WHEN p_days IS NULL OR r.closed_at > now() - make_interval(secs => 86400 * p_days) OR EXISTS (
                SELECT FROM conversations c
                 WHERE EXISTS (SELECT FROM messages m WHERE m.conversation_id = c.id AND m.id >= r.first_id
                                  AND m.id < r.next_id)
                   AND (is_on_hold(c.id)
                        OR EXISTS (SELECT FROM messages m WHERE m.conversation_id = c.id AND m.seq > c.cleared_seq
                                      AND m.id >= r.first_id AND m.id < r.next_id)));
            UPDATE message_partitions x SET dropped_at = now() WHERE x.first_id = r.first_id;
        END IF;
        RETURN QUERY
        SELECT r.first_id, r.next_id, partition_state('messages', r.first_id),
               partition_state('message_search', r.first_id);
        RETURN;
    END LOOP;
END $$;
