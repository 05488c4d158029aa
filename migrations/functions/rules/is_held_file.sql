-- Whether a message that waits for a moderator, or to be sent after the approval, has this file.

CREATE FUNCTION is_held_file(f files) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM held_messages h
         WHERE h.conversation_id = f.conversation_id AND h.sender_id = f.uploader_id AND f.id = ANY (h.files)
           AND (h.state = 'held' OR h.state = 'approved' AND NOT h.sent))
$$;
