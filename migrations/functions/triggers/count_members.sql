-- Counts the members of a conversation, once per statement.
-- Locks: the conversations' rows of conversation_statistics, in the order of their ids when they are added.

CREATE FUNCTION count_members() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO conversation_statistics AS s (conversation_id, member_count)
        SELECT conversation_id, count(*) FROM changed_members GROUP BY conversation_id ORDER BY conversation_id
        ON CONFLICT (conversation_id) DO UPDATE SET member_count = s.member_count + excluded.member_count;
    ELSE
        UPDATE conversation_statistics s SET member_count = s.member_count - gone.n
          FROM (SELECT conversation_id, count(*) AS n FROM changed_members GROUP BY conversation_id) gone
         WHERE s.conversation_id = gone.conversation_id;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER count_joined_members_{set} AFTER INSERT ON conversation_members
    REFERENCING NEW TABLE AS changed_members FOR EACH STATEMENT
    WHEN (current_setting('app.rules', true) = '{set}') EXECUTE FUNCTION count_members();

CREATE TRIGGER count_left_members_{set} AFTER DELETE ON conversation_members
    REFERENCING OLD TABLE AS changed_members FOR EACH STATEMENT
    WHEN (current_setting('app.rules', true) = '{set}') EXECUTE FUNCTION count_members();
