-- Writes messages to the search index. Deleted and system messages are not searched. Of a long text the first 40,000
-- characters are: they fit into a tsvector (1 MB) whatever they are.
-- SECURITY DEFINER: chat_writer cannot read texts, so the owner indexes them. Only other functions of the owner call
-- it.
-- Locks: the messages' rows of message_search. The caller holds the conversation's row of search_progress, so that an
-- edit and the indexing of the same message follow each other.

CREATE FUNCTION indexed_rows(p_messages bigint[]) RETURNS void LANGUAGE sql SECURITY DEFINER
SET search_path FROM CURRENT AS $$
    INSERT INTO message_search (message_id, conversation_id, sender_id, created_at, has_link, has_file, words, text)
    SELECT m.id, m.conversation_id, m.sender_id, m.created_at, m.content ~* '(^|\W)https?://\S',
           m.message_type IN ('image', 'file'),
           to_tsvector('public.veza', folded(left(m.content, 40000))), folded(left(m.content, 40000))
      FROM messages m
     WHERE m.id = ANY (p_messages) AND m.deleted_at IS NULL AND m.message_type <> 'system'
    ON CONFLICT (message_id) DO UPDATE
        SET words = excluded.words, text = excluded.text, has_link = excluded.has_link
$$;

REVOKE ALL ON FUNCTION indexed_rows(bigint[]) FROM PUBLIC;
