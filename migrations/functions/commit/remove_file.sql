-- Removes a file of its uploader that no message refers to, nor one that waits for a moderator. Returns whether there was one.
-- Locks: the file's row.

CREATE FUNCTION remove_file(p_user bigint, p_file bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM files f WHERE f.id = p_file AND f.uploader_id = p_user FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    ELSIF EXISTS (SELECT FROM message_files x WHERE x.file_id = p_file) THEN
        PERFORM refuse('conflict', 'A message has this file. Delete the message.');
    ELSIF EXISTS (SELECT FROM held_messages h WHERE h.sender_id = p_user AND h.state = 'held'
                     AND p_file = ANY (h.files)) THEN
        PERFORM refuse('conflict', 'A message that waits for a moderator has this file.');
    END IF;
    DELETE FROM files f WHERE f.id = p_file;
    RETURN true;
END $$;
