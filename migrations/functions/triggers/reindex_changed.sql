-- Keeps the search index in step with edits and deletions, in their transaction. A message that is not indexed yet is
-- left to the indexer.
-- SECURITY DEFINER: chat_writer cannot read texts, so the owner indexes them. Only the triggers call it.
-- Locks: the conversation's row of search_progress, FOR SHARE (locked_progress).

CREATE FUNCTION reindex_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    n record;
BEGIN
    FOR n IN SELECT x.id, x.conversation_id, x.seq, x.deleted_at FROM new_messages x ORDER BY x.conversation_id LOOP
        IF n.seq <= locked_progress(n.conversation_id, false) AND n.deleted_at IS NULL THEN
            PERFORM indexed_rows(ARRAY[n.id]);
        ELSE
            DELETE FROM message_search s WHERE s.message_id = n.id;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

CREATE TRIGGER reindex_changed_{set} AFTER UPDATE ON messages
    REFERENCING NEW TABLE AS new_messages FOR EACH STATEMENT
    WHEN (current_setting('app.rules', true) = '{set}') EXECUTE FUNCTION reindex_changed();

REVOKE ALL ON FUNCTION reindex_changed() FROM PUBLIC;
