-- How many messages a conversation has, and when the last one came, are in the conversation's own row. Every commit
-- updates that row, so these figures cost no update of their own. Before, they were in conversation_statistics, where
-- the columns stay for servers of earlier versions. Those count only their own messages there while a newer server runs
-- beside them, so their lists may be in an older order. What they remove, the next retention of a newer server counts.
--
-- Besides, nothing that reacts to a new message needs a transition table any more: PostgreSQL fills one for every row,
-- whatever the trigger does with it. Triggers for each row have a condition, and cost little where it does not hold.
-- Locks: conversations and messages, ACCESS EXCLUSIVE, for as long as it takes to copy two numbers per conversation.

SET LOCAL lock_timeout = '10s';
SET LOCAL app.data_rights = 'on';
LOCK TABLE conversations, messages IN ACCESS EXCLUSIVE MODE;

ALTER TABLE conversations ADD message_count bigint NOT NULL DEFAULT 0, ADD last_message_at timestamptz;
UPDATE conversations c SET message_count = s.message_count, last_message_at = s.last_message_at
  FROM conversation_statistics s WHERE s.conversation_id = c.id;

-- It is here and not in a rule set, so that servers of every version count. System messages have no ordinal of their
-- own, so joining and leaving does not move a conversation up in a list.
CREATE FUNCTION count_messages() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.message_count := OLD.message_count + NEW.last_ordinal - OLD.last_ordinal;
    NEW.last_message_at := now();
    RETURN NEW;
END $$;
CREATE TRIGGER count_messages BEFORE UPDATE OF last_ordinal ON conversations FOR EACH ROW
    WHEN (NEW.last_ordinal > OLD.last_ordinal) EXECUTE FUNCTION count_messages();

-- Notes a conversation's first message in each range but the first (V27). Statements insert the messages of a
-- conversation in the order of their seq, so the first row that has no note is the first message.
-- Locks: the row of conversation_partitions.
DROP TRIGGER note_ranges ON messages;
CREATE OR REPLACE FUNCTION note_ranges() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_first bigint := (SELECT max(x.first_id) FROM message_partitions x WHERE x.first_id <= NEW.id);
BEGIN
    -- An import may have kept larger ids than that in the first range, which has no notes.
    IF v_first > 0 AND NOT EXISTS (SELECT FROM conversation_partitions x
                                    WHERE x.conversation_id = NEW.conversation_id AND x.first_id = v_first) THEN
        INSERT INTO conversation_partitions (conversation_id, first_seq, first_id, ordinal_before)
        VALUES (NEW.conversation_id, NEW.seq, v_first,
                NEW.ordinal - CASE WHEN NEW.message_type = 'system' THEN 0 ELSE 1 END)
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;
-- Most servers have only the first range, which needs no notes.
CREATE TRIGGER note_ranges AFTER INSERT ON messages FOR EACH ROW
    WHEN (NEW.id >= 10000000000) EXECUTE FUNCTION note_ranges();
