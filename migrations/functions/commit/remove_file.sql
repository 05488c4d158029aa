-- Removes a file of its uploader that no message refers to, nor one that waits for a moderator. Returns whether there
-- was one.
-- Locks: row 0 of file_usage, as every removal does first or after the conversation; then the file's row.

CREATE FUNCTION remove_file(p_user bigint, p_file bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    f files;
BEGIN
    PERFORM FROM file_usage u WHERE u.user_id = 0 FOR UPDATE;
    SELECT x.* INTO f FROM files x WHERE x.id = p_file AND x.uploader_id = p_user FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    ELSIF EXISTS (SELECT FROM message_files x WHERE x.file_id = p_file) THEN
        PERFORM refuse('conflict', 'A message has this file. Delete the message.');
    ELSIF is_held_file(f) THEN
        PERFORM refuse('conflict', 'A message that waits for a moderator has this file.');
    END IF;
    DELETE FROM files x WHERE x.id = p_file;
    RETURN true;
END $$;
