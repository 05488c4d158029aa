-- Counts messages of a conversation and notes the time of the last one, once per statement. System messages do not
-- count, so joining and leaving does not move a conversation up in a list.
-- Locks: the conversations' rows of conversation_statistics, in the order of their ids.

CREATE FUNCTION count_messages() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO conversation_statistics AS s (conversation_id, message_count, last_message_at)
    SELECT conversation_id, count(*), max(created_at) FROM new_messages WHERE message_type <> 'system'
     GROUP BY conversation_id ORDER BY conversation_id
    ON CONFLICT (conversation_id) DO UPDATE
        SET message_count = s.message_count + excluded.message_count, last_message_at = excluded.last_message_at;
    RETURN NULL;
END $$;

CREATE TRIGGER count_messages_{set} AFTER INSERT ON messages
    REFERENCING NEW TABLE AS new_messages FOR EACH STATEMENT
    WHEN (current_setting('app.rules', true) = '{set}') EXECUTE FUNCTION count_messages();
