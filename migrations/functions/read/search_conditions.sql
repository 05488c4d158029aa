-- The conditions of a search other than its text. `period` and `others` are SQL with only those of this search, so that
-- it is planned with their values: no generic plan suits all searches. `period` bounds an index range, of which the
-- indexes message_search_files_by_… have the messages with files; `others` decide message by message. The rest are the
-- values of their parameters.
-- Parameters: $1 conversations, $2 sender, $3 before, $4 after, $5 and $6 the cursor, $7 words, $8 part of a text.

CREATE FUNCTION search_conditions(
    p_arguments jsonb, OUT period text, OUT others text, OUT sender bigint, OUT before timestamptz,
    OUT after timestamptz, OUT cursor_at timestamptz, OUT cursor_id bigint) LANGUAGE sql STABLE AS $$
    SELECT 'x.created_at < $3 AND x.created_at > $4'
            || CASE WHEN p_arguments ? 'cursor_us' THEN ' AND (x.created_at, x.message_id) < ($5, $6)' ELSE '' END
            || CASE WHEN p_arguments ->> 'has' IN ('file', 'image') THEN ' AND x.has_file' ELSE '' END,
        'x.conversation_id = ANY ($1)'
            || CASE WHEN p_arguments ->> 'from_user_id' IS NOT NULL THEN ' AND x.sender_id = $2' ELSE '' END
            || CASE p_arguments ->> 'has' WHEN 'link' THEN ' AND x.has_link'
               WHEN 'image' THEN ' AND x.has_image' ELSE '' END,
        (p_arguments -> 'from_user_id')::bigint,
        coalesce((p_arguments ->> 'before')::timestamptz, 'infinity'),
        coalesce((p_arguments ->> 'after')::timestamptz, '-infinity'),
        to_timestamp(0) + (p_arguments -> 'cursor_us')::bigint * interval '1 microsecond',
        (p_arguments -> 'cursor_id')::bigint
$$;
