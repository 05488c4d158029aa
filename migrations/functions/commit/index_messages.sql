-- Indexes the next messages of a conversation for the search: p_limit at most, and p_bytes of text, but always one.
-- Returns whether it may have more, how long ago the oldest message was sent that is still not indexed, and how many
-- could not be indexed.
-- A message that PostgreSQL cannot index is passed over: everything after it would wait for it forever.
-- SECURITY DEFINER: chat_writer cannot read texts, so the owner indexes them.
-- Locks: the conversation's row of search_progress, FOR UPDATE (locked_progress).

CREATE FUNCTION index_messages(p_conversation bigint, p_limit bigint, p_bytes bigint DEFAULT 9223372036854775807,
    OUT has_more boolean, OUT lag_s double precision, OUT passed_over bigint) LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    v_from bigint := locked_progress(p_conversation, true);
    v_floor bigint := (SELECT s.p_floor FROM message_span(p_conversation, v_from, v_from) s);
    v_head bigint;
    v_last bigint;
    v_ids  bigint[];
    v_id   bigint;
BEGIN
    has_more := false; lag_s := 0; passed_over := 0;
    -- Numbers are given in the order of their commits: up to the head that is seen here, the next look sees everything.
    SELECT c.last_seq INTO v_head FROM conversations c WHERE c.id = p_conversation;
    IF NOT FOUND OR v_head <= v_from THEN
        RETURN;
    END IF;
    -- octet_length reads the size of a long text and not the text.
    SELECT array_agg(y.id), max(y.seq),
           coalesce(count(*) = p_limit OR bool_or(y.earlier + y.bytes >= p_bytes), false)
      INTO v_ids, v_last, has_more
      FROM (SELECT x.id, x.seq, octet_length(x.content)::bigint AS bytes,
                   coalesce(sum(octet_length(x.content)) OVER (
                       ORDER BY x.seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS earlier
              FROM (SELECT z.id, z.seq, z.content FROM messages z
                     WHERE z.conversation_id = p_conversation AND z.seq > v_from AND z.seq <= v_head
                       AND z.id >= v_floor
                     ORDER BY z.seq LIMIT p_limit) x) y
     WHERE y.earlier < p_bytes;
    BEGIN
        PERFORM indexed_rows(v_ids);
    EXCEPTION WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded OR internal_error THEN
        FOREACH v_id IN ARRAY v_ids LOOP
            BEGIN
                PERFORM indexed_rows(ARRAY[v_id]);
            EXCEPTION
                WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded OR internal_error THEN
                    passed_over := passed_over + 1;
            END;
        END LOOP;
    END;
    UPDATE search_progress p SET indexed_seq = CASE WHEN has_more THEN v_last ELSE v_head END
     WHERE p.conversation_id = p_conversation;
    IF has_more THEN
        SELECT extract(epoch FROM now() - m.created_at) INTO lag_s FROM messages m
         WHERE m.conversation_id = p_conversation AND m.seq > v_last AND m.id >= v_floor ORDER BY m.seq LIMIT 1;
        lag_s := coalesce(lag_s, 0);
    END IF;
END $$;

REVOKE ALL ON FUNCTION index_messages(bigint, bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION index_messages(bigint, bigint, bigint) TO chat_writer;
