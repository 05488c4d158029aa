-- A page of a history: the messages before a seq, descending, each with the state of the thread that it replies to.
-- It reads the partitions in which the page can be, and earlier ones while messages are missing: most of a log are
-- messages, so two entries for each message are nearly always enough.
-- Without sorts, the page is read in its order. Otherwise the planner may read a small partition by its ids and sort.

CREATE FUNCTION messages_before(p_conversation bigint, p_seq bigint, p_limit bigint)
RETURNS TABLE (message json, reply_count bigint, last_reply_at timestamptz) LANGUAGE plpgsql STABLE
SET enable_sort = off AS $$
#variable_conflict use_column
DECLARE
    v_seq   bigint;
    v_left  bigint := p_limit;
    v_reach bigint := 2 * p_limit;
    v_rows  bigint;
    s       record;
BEGIN
    -- The end of the log instead of a number far behind it, from which v_reach would not reach back.
    SELECT least(p_seq, c.last_seq + 1) INTO v_seq FROM conversations c WHERE c.id = p_conversation;
    LOOP
        s := message_span(p_conversation, v_seq - v_reach, v_seq - 1);
        RETURN QUERY
        SELECT row_to_json(m), p.reply_count, p.last_reply_at
          FROM shown_messages m LEFT JOIN thread_statistics p ON p.root_message_id = m.parent_message_id
         WHERE m.conversation_id = p_conversation AND m.seq < v_seq
           AND m.message_id >= s.p_floor AND m.message_id < s.p_ceiling
         ORDER BY m.seq DESC LIMIT v_left;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        v_left := v_left - v_rows;
        EXIT WHEN v_left <= 0 OR s.p_floor = 0;
        v_seq := s.p_first;
        v_reach := 8 * v_reach;
    END LOOP;
END $$;
