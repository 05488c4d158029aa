-- Counts replies and makes their senders followers of the thread. The sender of the first message follows it from the
-- first reply on; with later replies they may have stopped following.
-- Locks: the threads' rows of thread_statistics, in the order of their ids.

CREATE FUNCTION count_replies() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- With these bounds, PostgreSQL opens the partitions from the first thread on and no earlier ones.
    v_first bigint;
    v_last  bigint;
BEGIN
    SELECT min(parent_message_id), max(parent_message_id) INTO v_first, v_last FROM new_messages;
    IF v_first IS NOT NULL THEN
        INSERT INTO thread_statistics AS t (root_message_id, conversation_id, reply_count, last_reply_at)
        SELECT parent_message_id, conversation_id, count(*), max(created_at)
          FROM new_messages WHERE parent_message_id IS NOT NULL
         GROUP BY parent_message_id, conversation_id ORDER BY parent_message_id
        ON CONFLICT (root_message_id) DO UPDATE
            SET reply_count = t.reply_count + excluded.reply_count, last_reply_at = excluded.last_reply_at;
        INSERT INTO thread_followers (root_message_id, user_id, conversation_id, read_seq)
        SELECT n.parent_message_id, f.user_id, n.conversation_id, f.seq
          FROM new_messages n
         CROSS JOIN LATERAL (SELECT r.sender_id, r.seq FROM messages r
                              WHERE r.id = n.parent_message_id AND r.id >= v_first AND r.id <= v_last
                                AND r.message_type <> 'system'
                                AND NOT EXISTS (SELECT FROM messages e
                                                 WHERE e.parent_message_id = n.parent_message_id AND e.seq < n.seq
                                                   AND e.id >= message_floor(v_first))
                                AND EXISTS (
                                    SELECT FROM conversation_members m
                                     WHERE m.conversation_id = n.conversation_id AND m.user_id = r.sender_id)
                             UNION ALL SELECT n.sender_id, n.seq) AS f (user_id, seq)
         WHERE n.parent_message_id IS NOT NULL
         ORDER BY f.seq
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER count_replies_{set} AFTER INSERT ON messages
    REFERENCING NEW TABLE AS new_messages FOR EACH STATEMENT
    WHEN (current_setting('app.rules', true) = '{set}') EXECUTE FUNCTION count_replies();
