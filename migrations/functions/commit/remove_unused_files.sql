-- Removes files that no message refers to any longer, nor one that waits for a moderator.
-- Locks: the files' rows, in the order of their ids.

CREATE FUNCTION remove_unused_files(p_files bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM files f WHERE f.id = ANY (p_files) ORDER BY f.id FOR UPDATE;
    DELETE FROM files f WHERE f.id = ANY (p_files) AND NOT EXISTS (
        SELECT FROM message_files x WHERE x.file_id = f.id) AND NOT is_held_file(f);
END $$;
