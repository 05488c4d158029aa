-- Counts the messages of the next conversations after p_after, p_most at a time: those whose history has a beginning
-- and may have lost messages with a partition. What is left is the difference of two ordinals. Returns the last
-- conversation; NULL at the end.
-- It needs the rights of the owner, in a transaction with app.data_rights and app.rules.
-- Locks: the conversations' rows, in the order of their ids, FOR NO KEY UPDATE, so that no message comes in between.

CREATE FUNCTION recount_messages(p_after bigint, p_most bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    c      conversations;
    v_last bigint;
BEGIN
    FOR c IN SELECT x.* FROM conversations x
              WHERE x.id > p_after AND x.cleared_seq > 0 ORDER BY x.id LIMIT p_most FOR NO KEY UPDATE
    LOOP
        v_last := c.id;
        UPDATE conversations x
           SET message_count = c.last_ordinal - coalesce(
                   (SELECT m.ordinal - (m.message_type <> 'system')::integer FROM messages m
                     WHERE m.conversation_id = c.id ORDER BY m.seq LIMIT 1), c.last_ordinal)
         WHERE x.id = c.id;
    END LOOP;
    RETURN v_last;
END $$;
