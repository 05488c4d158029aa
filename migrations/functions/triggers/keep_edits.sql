-- Keeps the text that an edit replaces, but not one that an erasure replaces. A deletion deletes all kept texts.
-- Locks: the messages' rows of message_edits. The statement holds the rows of the messages, so that two edits of one
-- message follow each other.

CREATE FUNCTION keep_edits() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO message_edits (message_id, number, conversation_id, content, written_at)
    SELECT o.id, (SELECT count(*) FROM message_edits e WHERE e.message_id = o.id), o.conversation_id, o.content,
           coalesce(o.edited_at, o.created_at)
      FROM old_messages o JOIN new_messages n ON n.id = o.id
     WHERE o.content <> n.content AND n.deleted_at IS NULL
       AND current_setting('app.erasing', true) IS DISTINCT FROM 'on';
    DELETE FROM message_edits e USING new_messages n WHERE e.message_id = n.id AND n.deleted_at IS NOT NULL;
    RETURN NULL;
END $$;

CREATE TRIGGER keep_edits_{set} AFTER UPDATE ON messages
    REFERENCING OLD TABLE AS old_messages NEW TABLE AS new_messages FOR EACH STATEMENT
    WHEN (current_setting('app.rules', true) = '{set}') EXECUTE FUNCTION keep_edits();
