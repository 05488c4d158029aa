-- The earlier texts of a message, the oldest first.

CREATE FUNCTION read_list_edits(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    m messages := readable_message(p_arguments);
BEGIN
    RETURN jsonb_build_object('edits', (
        SELECT coalesce(jsonb_agg(jsonb_build_object('content', e.content, 'created_at', rfc3339(e.written_at))
                                  ORDER BY e.number), '[]')
          FROM message_edits e WHERE e.message_id = m.id));
END $$;
