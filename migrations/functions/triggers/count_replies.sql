-- Counts replies and makes their senders followers of the thread. The sender of the first message follows it from the
-- first reply on; with later replies they may have stopped following.
-- Locks: the thread's row of thread_statistics. The statement holds the conversation's row, so that replies to one
-- thread follow each other.

CREATE FUNCTION count_replies() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO thread_statistics AS t (root_message_id, conversation_id, reply_count, last_reply_at)
    VALUES (NEW.parent_message_id, NEW.conversation_id, 1, NEW.created_at)
    ON CONFLICT (root_message_id) DO UPDATE
        SET reply_count = t.reply_count + 1, last_reply_at = excluded.last_reply_at;
    INSERT INTO thread_followers (root_message_id, user_id, conversation_id, read_seq)
    SELECT NEW.parent_message_id, f.user_id, NEW.conversation_id, f.seq
      FROM (SELECT r.sender_id, r.seq FROM messages r
             WHERE r.id = NEW.parent_message_id AND r.message_type <> 'system'
               AND NOT EXISTS (SELECT FROM messages e
                                WHERE e.parent_message_id = NEW.parent_message_id AND e.seq < NEW.seq
                                  AND e.id >= message_floor(NEW.parent_message_id))
               AND EXISTS (SELECT FROM conversation_members m
                            WHERE m.conversation_id = NEW.conversation_id AND m.user_id = r.sender_id)
            UNION ALL SELECT NEW.sender_id, NEW.seq) AS f (user_id, seq)
     ORDER BY f.seq
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

CREATE TRIGGER count_replies_{set} AFTER INSERT ON messages FOR EACH ROW
    WHEN (NEW.parent_message_id IS NOT NULL AND current_setting('app.rules', true) = '{set}')
    EXECUTE FUNCTION count_replies();
