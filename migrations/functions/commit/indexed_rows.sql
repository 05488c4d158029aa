-- Writes messages and the names of their files to the search index. Deleted and system messages are not searched. Of a
-- long text the first 40,000 characters are: they fit into a tsvector (1 MB) whatever they are.
-- SECURITY DEFINER: chat_writer cannot read texts, so the owner indexes them. Only other functions of the owner call
-- it.
-- Locks: the messages' rows of message_search. The caller holds the conversation's row of search_progress, so that an
-- edit and the indexing of the same message follow each other.

CREATE FUNCTION indexed_rows(p_messages bigint[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT AS $$
DECLARE
    -- An array opens all partitions, its bounds only theirs.
    v_first bigint := (SELECT min(x) FROM unnest(p_messages) x);
    v_last  bigint := (SELECT max(x) FROM unnest(p_messages) x);
BEGIN
    INSERT INTO message_search
           (message_id, conversation_id, sender_id, created_at, has_link, has_file, has_image, words, text)
    SELECT m.id, m.conversation_id, m.sender_id, m.created_at, m.content ~* '(^|\W)https?://\S',
           m.message_type IN ('image', 'file') OR f.names IS NOT NULL,
           m.message_type = 'image' OR coalesce(f.has_image, false), to_tsvector('public.veza', t.text), t.text
      FROM messages m
      LEFT JOIN LATERAL (
          SELECT string_agg(x.name, ' ' ORDER BY y.position) AS names,
                 bool_or(coalesce(x.media_type, x.declared_type) LIKE 'image/%') AS has_image
            FROM message_files y JOIN files x ON x.id = y.file_id WHERE y.message_id = m.id) f ON true
     CROSS JOIN LATERAL (SELECT folded(left(concat_ws(' ', m.content, f.names), 40000)) AS text) t
     WHERE m.id = ANY (p_messages) AND m.id >= v_first AND m.id <= v_last AND m.deleted_at IS NULL
       AND m.message_type <> 'system'
    ON CONFLICT (message_id) DO UPDATE
        SET words = excluded.words, text = excluded.text, has_link = excluded.has_link, has_file = excluded.has_file,
            has_image = excluded.has_image;
END $$;

REVOKE ALL ON FUNCTION indexed_rows(bigint[]) FROM PUBLIC;
