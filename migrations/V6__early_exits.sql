-- A commit of one message is the common case at a low rate, and most messages are no replies and mention nobody. The two
-- triggers look before they start the statements that would find nothing.

CREATE OR REPLACE FUNCTION count_replies() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM new_messages WHERE parent_message_id IS NOT NULL) THEN
        INSERT INTO thread_statistics AS t (root_message_id, conversation_id, reply_count, last_reply_at)
        SELECT parent_message_id, conversation_id, count(*), max(created_at)
          FROM new_messages WHERE parent_message_id IS NOT NULL
         GROUP BY parent_message_id, conversation_id ORDER BY parent_message_id
        ON CONFLICT (root_message_id) DO UPDATE
            SET reply_count = t.reply_count + excluded.reply_count, last_reply_at = excluded.last_reply_at;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION record_mentions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM new_messages WHERE strpos(content, '@') > 0) THEN
        INSERT INTO message_mentions (message_id, user_id, conversation_id, seq)
        SELECT DISTINCT n.id, u.id, n.conversation_id, n.seq
          FROM new_messages n
         CROSS JOIN LATERAL regexp_matches(n.content, '(?:^|[^A-Za-z0-9_@.-])@([A-Za-z0-9_-]{3,50})', 'g') AS found (groups)
          JOIN users u ON lower(u.username) = lower(found.groups[1])
          JOIN conversation_members m ON m.conversation_id = n.conversation_id AND m.user_id = u.id
         WHERE strpos(n.content, '@') > 0;
    END IF;
    RETURN NULL;
END $$;
