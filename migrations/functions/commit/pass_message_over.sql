-- Indexes the next message of a conversation alone, or passes it over if that fails. The indexer calls it for a message
-- that has failed several times. It first writes a row and removes it: while the index takes no writes, the function
-- fails and passes nothing over.
-- Returns the id of the message that no search will find; null if it was indexed, or if there is none.
-- SECURITY DEFINER: chat_writer cannot read texts, so the owner indexes them.
-- Locks: the conversation's row of search_progress, FOR UPDATE (locked_progress).

CREATE FUNCTION pass_message_over(p_conversation bigint) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    v_from   bigint := locked_progress(p_conversation, true);
    v_id     bigint;
    v_seq    bigint;
    v_passed bigint;
BEGIN
    INSERT INTO message_search (message_id, conversation_id, sender_id, created_at, has_link, has_file, words, text)
    VALUES (-p_conversation, p_conversation, 0, now(), false, false, to_tsvector('public.veza', 'probe'), 'probe');
    DELETE FROM message_search s WHERE s.message_id = -p_conversation;
    SELECT m.id, m.seq INTO v_id, v_seq FROM messages m
     WHERE m.conversation_id = p_conversation AND m.seq > v_from ORDER BY m.seq LIMIT 1;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    BEGIN
        PERFORM indexed_rows(ARRAY[v_id]);
    EXCEPTION
        -- Not the message's fault: the disk or the memory is full, or another transaction was in the way.
        WHEN insufficient_resources OR transaction_rollback OR lock_not_available OR object_in_use THEN RAISE;
        WHEN OTHERS OR query_canceled THEN
            v_passed := v_id;
    END;
    UPDATE search_progress p SET indexed_seq = v_seq WHERE p.conversation_id = p_conversation;
    RETURN v_passed;
END $$;

REVOKE ALL ON FUNCTION pass_message_over(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pass_message_over(bigint) TO chat_writer;
