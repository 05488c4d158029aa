-- Records who is mentioned, for a new message and again after an edit. @room and @here mention every member, if the
-- sender is a moderator and the conversation has 1,000 members at most. features.user_mentions switches mentions off:
-- the server sets app.user_mentions on the writer's connections (storage/connect.rs). It does nothing for a message
-- without an @.
-- Locks: the message's rows of message_mentions; the mentioned users, FOR KEY SHARE (the foreign key), which only the
-- deletion of an account waits for.

CREATE FUNCTION record_mentions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('app.erasing', true) = 'on' THEN
        -- Nobody is mentioned anew by an erasure. A text that only lost a name keeps its other mentions.
        DELETE FROM message_mentions x WHERE x.message_id = NEW.id AND NEW.deleted_at IS NOT NULL;
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        DELETE FROM message_mentions x WHERE x.message_id = NEW.id;
    END IF;
    IF strpos(NEW.content, '@') > 0 AND NEW.message_type <> 'system'
       AND current_setting('app.user_mentions', true) IS DISTINCT FROM 'off' THEN
        INSERT INTO message_mentions (message_id, user_id, conversation_id, seq, sender_id)
        SELECT DISTINCT NEW.id, m.user_id, NEW.conversation_id, NEW.seq, NEW.sender_id
          FROM mentioned_names(NEW.content) AS mentioned
         CROSS JOIN LATERAL (
               SELECT m.user_id FROM users u
                 JOIN conversation_members m ON m.conversation_id = NEW.conversation_id AND m.user_id = u.id
                WHERE lower(u.username) = mentioned.name
               UNION ALL
               SELECT m.user_id FROM conversation_members m
                WHERE mentioned.name IN ('room', 'here') AND m.conversation_id = NEW.conversation_id
                  AND m.user_id <> NEW.sender_id
                  AND EXISTS (SELECT FROM conversation_members s WHERE s.conversation_id = NEW.conversation_id
                                 AND s.user_id = NEW.sender_id AND s.role >= 'moderator')
                  AND EXISTS (SELECT FROM conversation_statistics t WHERE t.conversation_id = NEW.conversation_id
                                 AND t.member_count <= 1000)) m
         WHERE NOT is_blocked(NEW.sender_id, m.user_id);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER record_mentions_{set} AFTER INSERT ON messages FOR EACH ROW
    WHEN (strpos(NEW.content, '@') > 0 AND current_setting('app.rules', true) = '{set}')
    EXECUTE FUNCTION record_mentions();

CREATE TRIGGER record_mentions_again_{set} AFTER UPDATE ON messages FOR EACH ROW
    WHEN (current_setting('app.rules', true) = '{set}') EXECUTE FUNCTION record_mentions();
