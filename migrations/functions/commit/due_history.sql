-- The next conversation after p_after with messages that are older than retention allows: the shorter one of its own
-- days and p_days of the whole server, each NULL for no limit. Returns the last conversation that it has looked at, and
-- for one that is due the actor of the change and the seq up to which it goes. No row at the end.
-- It needs the rights of the owner, in a transaction with app.data_rights.
-- Locks: none.

CREATE FUNCTION due_history(p_after bigint, p_days double precision, p_most bigint)
RETURNS TABLE (conversation_id bigint, actor_id bigint, to_seq bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    c conversations;
    v_cutoff timestamptz;
BEGIN
    FOR c IN SELECT x.* FROM conversations x
              WHERE x.id > p_after AND (p_days IS NOT NULL OR x.retention_days IS NOT NULL) ORDER BY x.id LIMIT p_most
    LOOP
        conversation_id := c.id; actor_id := coalesce(c.owner_id, c.direct_low); to_seq := NULL;
        v_cutoff := now() - make_interval(secs => 86400 * least(c.retention_days, p_days));
        IF actor_id IS NOT NULL AND NOT is_on_hold(c.id) THEN
            -- The messages of a log are in the order of their times: only old ones are read.
            SELECT m.seq - 1 INTO to_seq FROM messages m
             WHERE m.conversation_id = c.id AND m.seq > c.cleared_seq AND m.created_at >= v_cutoff
             ORDER BY m.seq LIMIT 1;
            to_seq := coalesce(to_seq, c.last_seq);
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
