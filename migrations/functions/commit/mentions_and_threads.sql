-- What the triggers recorded for new messages: mentions and thread statistics; and their files. commit_messages cannot
-- return it, because triggers run after its rows are made. Only called for a batch with an @, a reply or a file.
-- Locks: none.

CREATE FUNCTION mentions_and_threads(p_messages bigint[])
RETURNS TABLE (message_id bigint, mentions bigint[], root_id bigint, reply_count bigint, last_reply_at timestamptz,
    attachments jsonb)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    -- An array opens all partitions, its bounds only theirs.
    v_first bigint := (SELECT min(x) FROM unnest(p_messages) x);
    v_last  bigint := (SELECT max(x) FROM unnest(p_messages) x);
BEGIN
    RETURN QUERY
    SELECT m.id, (SELECT array_agg(x.user_id ORDER BY x.user_id) FROM message_mentions x WHERE x.message_id = m.id),
           m.parent_message_id, t.reply_count, t.last_reply_at, attachments_json(m.id)
      FROM messages m LEFT JOIN thread_statistics t ON t.root_message_id = m.parent_message_id
     WHERE m.id = ANY (p_messages) AND m.id >= v_first AND m.id <= v_last;
END $$;
