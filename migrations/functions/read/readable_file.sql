-- A file that a user may read: its uploader while a member, and everybody who may read a message with it.

CREATE FUNCTION readable_file(p_user bigint, p_file bigint) RETURNS SETOF files LANGUAGE sql STABLE AS $$
    SELECT f.* FROM files f
     WHERE f.id = p_file
       AND EXISTS (SELECT FROM conversation_members m
                    WHERE m.conversation_id = f.conversation_id AND m.user_id = p_user)
       AND (f.uploader_id = p_user OR EXISTS (SELECT FROM message_files x WHERE x.file_id = f.id))
$$;
