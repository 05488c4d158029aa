-- How far a conversation is indexed. The indexer locks the row alone; an edit shares it. So an edit and the indexing of
-- the same message never miss each other.
-- SECURITY DEFINER: chat_writer cannot read texts, so the owner indexes them. Only other functions of the owner call
-- it.
-- Locks: the conversation's row of search_progress, FOR UPDATE or FOR SHARE, until the transaction ends.

CREATE FUNCTION locked_progress(p_conversation bigint, p_alone boolean) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    v_seq bigint;
BEGIN
    INSERT INTO search_progress (conversation_id) SELECT c.id FROM conversations c WHERE c.id = p_conversation
    ON CONFLICT DO NOTHING;
    IF p_alone THEN
        SELECT p.indexed_seq INTO v_seq FROM search_progress p WHERE p.conversation_id = p_conversation FOR UPDATE;
    ELSE
        SELECT p.indexed_seq INTO v_seq FROM search_progress p WHERE p.conversation_id = p_conversation FOR SHARE;
    END IF;
    RETURN v_seq;
END $$;

REVOKE ALL ON FUNCTION locked_progress(bigint, boolean) FROM PUBLIC;
