-- A file that a user may read: its uploader while a member, everybody who may read a message with it, and the
-- moderators of its conversation while a message with it waits for them.

CREATE FUNCTION readable_file(p_user bigint, p_file bigint) RETURNS SETOF files LANGUAGE sql STABLE AS $$
    SELECT f.* FROM files f JOIN conversation_members m ON m.conversation_id = f.conversation_id AND m.user_id = p_user
     WHERE f.id = p_file
       AND (f.uploader_id = p_user OR EXISTS (SELECT FROM message_files x WHERE x.file_id = f.id)
            OR m.role >= 'moderator' AND EXISTS (
                SELECT FROM held_messages h
                 WHERE h.conversation_id = f.conversation_id AND h.sender_id = f.uploader_id AND h.state = 'held'
                   AND f.id = ANY (h.files)))
$$;
