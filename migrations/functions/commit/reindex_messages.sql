-- Writes messages to the search index again whose files have changed. A message that is not indexed yet is left to the
-- indexer.
-- SECURITY DEFINER: chat_writer cannot read texts, so the owner indexes them.
-- Locks: the conversation's row of search_progress, FOR SHARE (locked_progress); the messages' rows of message_search.

CREATE FUNCTION reindex_messages(p_conversation bigint, p_messages bigint[]) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    v_seq   bigint := locked_progress(p_conversation, false);
    v_first bigint := (SELECT min(x) FROM unnest(p_messages) x);
    v_last  bigint := (SELECT max(x) FROM unnest(p_messages) x);
BEGIN
    PERFORM indexed_rows(array(
        SELECT m.id FROM messages m
         WHERE m.id = ANY (p_messages) AND m.conversation_id = p_conversation AND m.seq <= v_seq
           AND m.id >= v_first AND m.id <= v_last));
END $$;

REVOKE ALL ON FUNCTION reindex_messages(bigint, bigint[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reindex_messages(bigint, bigint[]) TO chat_writer;
