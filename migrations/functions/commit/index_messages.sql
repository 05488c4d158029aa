-- Indexes the next messages of a conversation for the search, p_limit at most. Returns whether it has more.
-- SECURITY DEFINER: chat_writer cannot read texts, so the owner indexes them.
-- Locks: the conversation's row of search_progress, FOR UPDATE (locked_progress).

CREATE FUNCTION index_messages(p_conversation bigint, p_limit bigint) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    v_from bigint := locked_progress(p_conversation, true);
    v_head bigint;
    v_last bigint;
    v_ids  bigint[];
BEGIN
    -- Numbers are given in the order of their commits: up to the head that is seen here, the next look sees everything.
    SELECT c.last_seq INTO v_head FROM conversations c WHERE c.id = p_conversation;
    IF NOT FOUND OR v_head <= v_from THEN
        RETURN false;
    END IF;
    SELECT array_agg(m.id), max(m.seq) INTO v_ids, v_last
      FROM (SELECT x.id, x.seq FROM messages x
             WHERE x.conversation_id = p_conversation AND x.seq > v_from AND x.seq <= v_head
             ORDER BY x.seq LIMIT p_limit) m;
    PERFORM indexed_rows(v_ids);
    IF cardinality(v_ids) = p_limit THEN
        UPDATE search_progress p SET indexed_seq = v_last WHERE p.conversation_id = p_conversation;
        RETURN true;
    END IF;
    UPDATE search_progress p SET indexed_seq = v_head WHERE p.conversation_id = p_conversation;
    RETURN false;
END $$;

REVOKE ALL ON FUNCTION index_messages(bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION index_messages(bigint, bigint) TO chat_writer;
