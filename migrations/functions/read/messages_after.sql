-- A page of a history: the messages after a seq, ascending, as messages_before has them.

CREATE FUNCTION messages_after(p_conversation bigint, p_seq bigint, p_limit bigint)
RETURNS TABLE (message json, reply_count bigint, last_reply_at timestamptz) LANGUAGE plpgsql STABLE
SET enable_sort = off AS $$
#variable_conflict use_column
DECLARE
    v_seq   bigint := p_seq;
    v_left  bigint := p_limit;
    v_reach bigint := 2 * p_limit;
    v_rows  bigint;
    s       record;
BEGIN
    LOOP
        s := message_span(p_conversation, v_seq + 1, v_seq + v_reach);
        RETURN QUERY
        SELECT row_to_json(m), p.reply_count, p.last_reply_at
          FROM shown_messages m LEFT JOIN thread_statistics p ON p.root_message_id = m.parent_message_id
         WHERE m.conversation_id = p_conversation AND m.seq > v_seq
           AND m.message_id >= s.p_floor AND m.message_id < s.p_ceiling
         ORDER BY m.seq LIMIT v_left;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        v_left := v_left - v_rows;
        EXIT WHEN v_left <= 0 OR s.p_next IS NULL;
        v_seq := s.p_next - 1;
        v_reach := 8 * v_reach;
    END LOOP;
END $$;
