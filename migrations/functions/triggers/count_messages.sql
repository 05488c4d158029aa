-- Counts messages of a conversation and notes the time of the last one, once per statement. System messages do not
-- count, so joining and leaving does not move a conversation up in a list.
-- Notes a conversation's first message in a range of ids (message_span).
-- Locks: the conversations' rows of conversation_statistics, in the order of their ids; likewise of
-- conversation_partitions.

CREATE FUNCTION count_messages() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_second bigint := (SELECT x.first_id FROM message_partitions x WHERE x.first_id > 0 ORDER BY x.first_id LIMIT 1);
BEGIN
    INSERT INTO conversation_statistics AS s (conversation_id, message_count, last_message_at)
    SELECT conversation_id, count(*), max(created_at) FROM new_messages WHERE message_type <> 'system'
     GROUP BY conversation_id ORDER BY conversation_id
    ON CONFLICT (conversation_id) DO UPDATE
        SET message_count = s.message_count + excluded.message_count, last_message_at = excluded.last_message_at;
    -- The first range of ids needs no rows, and most servers have no other.
    IF v_second IS NOT NULL THEN
        INSERT INTO conversation_partitions (conversation_id, first_seq, first_id, ordinal_before)
        SELECT n.conversation_id, min(n.seq), r.first_id,
               min(n.ordinal - CASE WHEN n.message_type = 'system' THEN 0 ELSE 1 END)
          FROM new_messages n
          JOIN (SELECT x.first_id, lead(x.first_id) OVER (ORDER BY x.first_id) AS next_id FROM message_partitions x) r
            ON n.id >= r.first_id AND (n.id < r.next_id OR r.next_id IS NULL)
         WHERE n.id >= v_second
         GROUP BY n.conversation_id, r.first_id ORDER BY 1, 2
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER count_messages_{set} AFTER INSERT ON messages
    REFERENCING NEW TABLE AS new_messages FOR EACH STATEMENT
    WHEN (current_setting('app.rules', true) = '{set}') EXECUTE FUNCTION count_messages();
