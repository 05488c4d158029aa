-- The conversations that the caller may see, as p_user sees them. Used in FROM, PostgreSQL makes this part of the
-- calling statement, like a view. A function of one conversation would be executed for each, and the policies of each
-- table would look up the user's conversations again each time.

CREATE FUNCTION shown_conversations(p_user bigint)
RETURNS TABLE (id bigint, kind conversation_kind, name text, archived_at timestamptz, json jsonb)
LANGUAGE sql STABLE AS $$
    SELECT c.id, c.kind, c.name, c.archived_at, jsonb_build_object(
        'id', conversation_text_id(c.id), 'kind', c.kind,
        'name', coalesce(c.name, (
            SELECT u.display_name FROM users u
             WHERE c.kind = 'direct'
               AND u.id = CASE WHEN c.direct_low = p_user THEN c.direct_high ELSE c.direct_low END)),
        'description', c.description, 'owner_id', c.owner_id, 'role', m.role, 'last_seq', c.last_seq,
        'read_seq', coalesce(m.read_seq, 0),
        'unread_count', unread_messages(c, p_user, m.read_seq),
        'mention_count', (SELECT count(*) FROM message_mentions x
                           WHERE x.conversation_id = c.id AND x.user_id = p_user AND x.seq > m.read_seq
                             AND x.sender_id <> p_user),
        'member_count', coalesce(s.member_count, 0), 'last_message_at', rfc3339(c.last_message_at),
        'created_at', rfc3339(c.created_at), 'archived', c.archived_at IS NOT NULL,
        'slow_mode_s', c.slow_mode_s, 'member_limit', c.member_limit, 'retention_days', c.retention_days,
        'cleared_seq', c.cleared_seq)
      FROM conversations c
      LEFT JOIN conversation_members m ON m.conversation_id = c.id AND m.user_id = p_user
      LEFT JOIN conversation_statistics s ON s.conversation_id = c.id
$$;
