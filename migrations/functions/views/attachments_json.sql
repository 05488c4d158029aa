-- The files of a message; null for a message without any.
-- needs: file_json

CREATE FUNCTION attachments_json(p_message bigint) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_agg(file_json(f) ORDER BY x.position)
      FROM message_files x JOIN files f ON f.id = x.file_id WHERE x.message_id = p_message
$$;
