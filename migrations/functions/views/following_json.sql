-- A thread's state for one user: whether they follow it, up to where they have read it, what is unread.

CREATE FUNCTION following_json(p_root bigint, p_user bigint) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('message_id', p_root, 'following', f.user_id IS NOT NULL,
        'read_seq', coalesce(f.read_seq, 0),
        'unread_count', CASE WHEN f.user_id IS NULL THEN 0 ELSE unread_replies(p_root, p_user, f.read_seq) END)
      FROM (SELECT) AS one LEFT JOIN thread_followers f ON f.root_message_id = p_root AND f.user_id = p_user
$$;
