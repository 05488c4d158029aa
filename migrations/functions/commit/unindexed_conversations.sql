-- Conversations with messages that are not indexed yet. The indexer asks at its start and after a full queue.
-- SECURITY DEFINER: search_progress is readable by its owner only.

CREATE FUNCTION unindexed_conversations(p_after bigint, p_limit bigint) RETURNS bigint[] LANGUAGE sql STABLE
SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT array_agg(x.id ORDER BY x.id) FROM (
        SELECT c.id FROM conversations c LEFT JOIN search_progress p ON p.conversation_id = c.id
         WHERE c.id > p_after AND c.last_seq > coalesce(p.indexed_seq, 0) ORDER BY c.id LIMIT p_limit) x
$$;

REVOKE ALL ON FUNCTION unindexed_conversations(bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION unindexed_conversations(bigint, bigint) TO chat_writer;
