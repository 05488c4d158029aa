-- Conversations with messages that are not indexed yet, and the age of the oldest of these in seconds. The indexer asks
-- at its start and after a full queue.
-- SECURITY DEFINER: search_progress is readable by its owner only.
-- Locks: none.

CREATE FUNCTION unindexed_conversations(p_after bigint, p_limit bigint)
RETURNS TABLE (conversation_id bigint, age_s double precision) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT x.id, coalesce((
               SELECT extract(epoch FROM now() - m.created_at) FROM messages m
                WHERE m.conversation_id = x.id AND m.seq > x.indexed_seq ORDER BY m.seq LIMIT 1), 0)
      FROM (SELECT c.id, coalesce(p.indexed_seq, 0) AS indexed_seq
              FROM conversations c LEFT JOIN search_progress p ON p.conversation_id = c.id
             WHERE c.id > p_after AND c.last_seq > coalesce(p.indexed_seq, 0) ORDER BY c.id LIMIT p_limit) x
     ORDER BY x.id
$$;

REVOKE ALL ON FUNCTION unindexed_conversations(bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION unindexed_conversations(bigint, bigint) TO chat_writer;
