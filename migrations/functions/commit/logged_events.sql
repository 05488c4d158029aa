-- The events of a log from one position to another, both included, and their kinds; of these kinds only, unless p_kinds
-- is empty.
-- Locks: none.

CREATE FUNCTION logged_events(p_conversation bigint, p_from bigint, p_to bigint, p_kinds text[])
RETURNS TABLE (seq bigint, kind text) LANGUAGE sql STABLE AS $$
    SELECT e.seq, e.kind FROM (
        SELECT m.seq, 'message_created' AS kind FROM messages m
         WHERE m.conversation_id = p_conversation AND m.seq BETWEEN p_from AND p_to
        UNION ALL
        SELECT x.seq, x.kind FROM conversation_events x
         WHERE x.conversation_id = p_conversation AND x.seq BETWEEN p_from AND p_to) e
     WHERE p_kinds = '{}' OR e.kind = ANY (p_kinds)
$$;
