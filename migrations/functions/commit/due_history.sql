-- The next conversation after p_after with messages that are older than retention allows: the shorter one of its own
-- days and p_days of the whole server, each NULL for no limit. Returns the last conversation that it has looked at, and
-- for one that is due the actor of the change and the seq up to which it goes. No row at the end.
-- What the server's own limit removes ends where a range of ids ends, which is not more than a twelfth of the limit
-- earlier: then its partition can be dropped. A conversation whose messages in a range are older than the range was
-- imported, and is not rounded; neither is the first range, which has everything from before.
-- It needs the rights of the owner, in a transaction with app.data_rights.
-- Locks: none.

CREATE FUNCTION due_history(p_after bigint, p_days double precision, p_most bigint)
RETURNS TABLE (conversation_id bigint, actor_id bigint, to_seq bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    c conversations;
    v_cutoff timestamptz;
    v_begun  bigint;
BEGIN
    FOR c IN SELECT x.* FROM conversations x
              WHERE x.id > p_after AND (p_days IS NOT NULL OR x.retention_days IS NOT NULL) ORDER BY x.id LIMIT p_most
    LOOP
        conversation_id := c.id; to_seq := NULL;
        -- A room of an import can have no owner. Then it is the sender of its first message.
        actor_id := coalesce(c.owner_id, c.direct_low, (
            SELECT m.sender_id FROM messages m
             WHERE m.conversation_id = c.id AND m.seq > c.cleared_seq ORDER BY m.seq LIMIT 1));
        v_cutoff := now() - make_interval(secs => 86400 * least(c.retention_days, p_days));
        IF actor_id IS NOT NULL AND NOT is_on_hold(c.id) THEN
            -- What the server's limit removes ends where the first range begins that is not old as a whole.
            v_begun := NULL;
            IF p_days <= coalesce(c.retention_days, p_days) THEN
                SELECT min(x.first_seq) INTO v_begun
                  FROM conversation_partitions x JOIN message_partitions r USING (first_id)
                 WHERE x.conversation_id = c.id AND coalesce(r.closed_at, 'infinity') > v_cutoff
                   AND r.opened_at - interval '1 hour' <= (
                           SELECT m.created_at FROM messages m
                            WHERE m.conversation_id = c.id AND m.seq >= x.first_seq AND m.id >= x.first_id
                            ORDER BY m.seq LIMIT 1);
            END IF;
            -- The messages of a log are in the order of their times: only old ones are read.
            SELECT m.seq - 1 INTO to_seq FROM messages m
             WHERE m.conversation_id = c.id AND m.seq > c.cleared_seq AND m.created_at >= v_cutoff
               AND (m.seq < v_begun OR v_begun IS NULL)
             ORDER BY m.seq LIMIT 1;
            to_seq := coalesce(to_seq, v_begun - 1, c.last_seq);
            IF to_seq > c.cleared_seq AND EXISTS (
                SELECT FROM messages m
                 WHERE m.conversation_id = c.id AND m.seq > c.cleared_seq AND m.seq <= to_seq) THEN
                RETURN NEXT;
                RETURN;
            END IF;
        END IF;
    END LOOP;
    IF conversation_id IS NOT NULL THEN
        to_seq := NULL;
        RETURN NEXT;
    END IF;
END $$;
