-- Messages: the hot table. It has the three indexes it cannot do without and no foreign keys of its own, because the
-- inserting statement joins conversation_members, whose foreign keys vouch for conversation and sender.

CREATE SEQUENCE message_ids AS bigint MAXVALUE 9007199254740991 CACHE 256;

CREATE TABLE messages (
    conversation_id   bigint       NOT NULL,
    seq               bigint       NOT NULL,
    id                bigint       NOT NULL DEFAULT nextval('message_ids'),
    sender_id         bigint       NOT NULL,
    parent_message_id bigint,
    created_at        timestamptz  NOT NULL DEFAULT now(),
    edited_at         timestamptz,
    deleted_at        timestamptz,
    message_type      message_type NOT NULL DEFAULT 'text',
    content           text         NOT NULL,
    client_message_id text         CHECK (octet_length(client_message_id) <= 64),
    PRIMARY KEY (conversation_id, seq)
);
CREATE UNIQUE INDEX messages_id_key ON messages (id);
-- Kept for ever: a repeat of a send returns the first result, whenever it comes.
CREATE UNIQUE INDEX messages_dedupe_key ON messages (conversation_id, sender_id, client_message_id)
    WHERE client_message_id IS NOT NULL;
CREATE INDEX messages_by_parent ON messages (parent_message_id, seq) WHERE parent_message_id IS NOT NULL;

CREATE TABLE message_mentions (
    message_id      bigint NOT NULL,
    user_id         bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    conversation_id bigint NOT NULL,
    seq             bigint NOT NULL,
    PRIMARY KEY (message_id, user_id)
);
CREATE INDEX message_mentions_by_user ON message_mentions (user_id, conversation_id, seq);

CREATE TABLE thread_statistics (
    root_message_id bigint      PRIMARY KEY,
    conversation_id bigint      NOT NULL,
    reply_count     bigint      NOT NULL,
    last_reply_at   timestamptz NOT NULL
);

-- Statement-level triggers with transition tables: their cost is per batch, not per row.

CREATE FUNCTION count_messages() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO conversation_statistics AS s (conversation_id, message_count, last_message_at)
    SELECT conversation_id, count(*), max(created_at) FROM new_messages GROUP BY conversation_id ORDER BY conversation_id
    ON CONFLICT (conversation_id) DO UPDATE
        SET message_count = s.message_count + excluded.message_count, last_message_at = excluded.last_message_at;
    RETURN NULL;
END $$;
CREATE TRIGGER count_messages AFTER INSERT ON messages
    REFERENCING NEW TABLE AS new_messages FOR EACH STATEMENT EXECUTE FUNCTION count_messages();

CREATE FUNCTION count_replies() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO thread_statistics AS t (root_message_id, conversation_id, reply_count, last_reply_at)
    SELECT parent_message_id, conversation_id, count(*), max(created_at)
      FROM new_messages WHERE parent_message_id IS NOT NULL
     GROUP BY parent_message_id, conversation_id ORDER BY parent_message_id
    ON CONFLICT (root_message_id) DO UPDATE
        SET reply_count = t.reply_count + excluded.reply_count, last_reply_at = excluded.last_reply_at;
    RETURN NULL;
END $$;
CREATE TRIGGER count_replies AFTER INSERT ON messages
    REFERENCING NEW TABLE AS new_messages FOR EACH STATEMENT EXECUTE FUNCTION count_replies();

-- An e-mail address is not a mention: the character before @ must not be part of a word.
CREATE FUNCTION record_mentions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO message_mentions (message_id, user_id, conversation_id, seq)
    SELECT DISTINCT n.id, u.id, n.conversation_id, n.seq
      FROM new_messages n
     CROSS JOIN LATERAL regexp_matches(n.content, '(?:^|[^A-Za-z0-9_@.-])@([A-Za-z0-9_-]{3,50})', 'g') AS found (groups)
      JOIN users u ON lower(u.username) = lower(found.groups[1])
      JOIN conversation_members m ON m.conversation_id = n.conversation_id AND m.user_id = u.id
     WHERE strpos(n.content, '@') > 0;
    RETURN NULL;
END $$;
CREATE TRIGGER record_mentions AFTER INSERT ON messages
    REFERENCING NEW TABLE AS new_messages FOR EACH STATEMENT EXECUTE FUNCTION record_mentions();

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
CREATE TRIGGER count_joined_members AFTER INSERT ON conversation_members
    REFERENCING NEW TABLE AS changed_members FOR EACH STATEMENT EXECUTE FUNCTION count_members();
CREATE TRIGGER count_left_members AFTER DELETE ON conversation_members
    REFERENCING OLD TABLE AS changed_members FOR EACH STATEMENT EXECUTE FUNCTION count_members();
