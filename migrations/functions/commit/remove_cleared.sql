-- Removes rows of a conversation's log that are not behind cleared_seq, with everything that belongs to them: p_most
-- entries at a time, from the beginning on, so that the log never has a gap. Returns how many messages there were, and
-- whether there is more.
-- It needs the rights of the owner, in a transaction with app.data_rights and app.rules.
-- Locks: the conversation's row, FOR NO KEY UPDATE, so that a change of one of the messages has ended; then the rows.

CREATE FUNCTION remove_cleared(p_conversation bigint, p_most bigint)
RETURNS TABLE (removed bigint, more boolean) LANGUAGE plpgsql AS $$
DECLARE
    c          conversations;
    v_first    bigint;
    v_to       bigint;
    v_messages bigint[];
    v_files    bigint[];
    v_counted  bigint;
BEGIN
    SELECT x.* INTO STRICT c FROM conversations x WHERE x.id = p_conversation FOR NO KEY UPDATE;
    removed := 0; more := false;
    SELECT least((SELECT m.seq FROM messages m WHERE m.conversation_id = c.id ORDER BY m.seq LIMIT 1),
                 (SELECT e.seq FROM conversation_events e WHERE e.conversation_id = c.id ORDER BY e.seq LIMIT 1))
      INTO v_first;
    IF v_first IS NULL OR v_first > c.cleared_seq OR is_on_hold(c.id) THEN
        RETURN NEXT;
        RETURN;
    END IF;
    v_to := least(v_first + p_most - 1, c.cleared_seq);
    WITH gone AS (
        DELETE FROM messages m WHERE m.conversation_id = c.id AND m.seq BETWEEN v_first AND v_to
        RETURNING m.id, m.message_type)
    SELECT coalesce(array_agg(g.id), '{}'), count(*), count(*) FILTER (WHERE g.message_type <> 'system')
      INTO v_messages, removed, v_counted FROM gone g;
    DELETE FROM conversation_events e WHERE e.conversation_id = c.id AND e.seq BETWEEN v_first AND v_to;
    DELETE FROM message_search x WHERE x.message_id = ANY (v_messages);
    DELETE FROM message_edits x WHERE x.message_id = ANY (v_messages);
    DELETE FROM message_mentions x WHERE x.message_id = ANY (v_messages);
    DELETE FROM message_reactions x WHERE x.message_id = ANY (v_messages);
    DELETE FROM message_pins x WHERE x.conversation_id = c.id AND x.message_id = ANY (v_messages);
    DELETE FROM thread_statistics x WHERE x.root_message_id = ANY (v_messages);
    DELETE FROM thread_followers x WHERE x.root_message_id = ANY (v_messages);
    WITH gone AS (DELETE FROM message_files x WHERE x.message_id = ANY (v_messages) RETURNING x.file_id)
    SELECT array_agg(g.file_id) INTO v_files FROM gone g;
    IF v_files IS NOT NULL THEN
        PERFORM remove_unused_files(v_files);
    END IF;
    UPDATE conversations x SET message_count = greatest(x.message_count - v_counted, 0)
     WHERE x.id = c.id AND v_counted > 0;
    more := v_to < c.cleared_seq;
    RETURN NEXT;
END $$;
