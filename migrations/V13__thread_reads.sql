-- How far somebody has read a thread that they follow, and whom a marker is shown.

-- Private receipts: what somebody has read is their own business. In the columns of users, since it belongs to the person
-- and not to a device.
ALTER TABLE users ADD COLUMN receipts_private boolean NOT NULL DEFAULT false;

ALTER TABLE thread_followers ADD COLUMN read_seq bigint NOT NULL DEFAULT 0;
-- What was said before there were markers counts as read.
ALTER TABLE thread_followers NO FORCE ROW LEVEL SECURITY;
ALTER TABLE conversations NO FORCE ROW LEVEL SECURITY;
UPDATE thread_followers f SET read_seq = c.last_seq FROM conversations c WHERE c.id = f.conversation_id;
ALTER TABLE conversations FORCE ROW LEVEL SECURITY;
ALTER TABLE thread_followers FORCE ROW LEVEL SECURITY;
GRANT UPDATE (read_seq) ON thread_followers TO chat_writer;
CREATE POLICY writer_marks ON thread_followers FOR UPDATE TO chat_writer USING (true) WITH CHECK (true);

-- Whoever begins a thread or replies in it follows it: from its first message, or from their own reply on. Who began it does
-- so with the first reply only: they may have stopped since.
CREATE OR REPLACE FUNCTION count_replies() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM new_messages WHERE parent_message_id IS NOT NULL) THEN
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
                              WHERE r.id = n.parent_message_id AND r.message_type <> 'system'
                                AND NOT EXISTS (SELECT FROM messages e
                                                 WHERE e.parent_message_id = n.parent_message_id AND e.seq < n.seq)
                                AND EXISTS (SELECT FROM conversation_members m WHERE m.conversation_id = n.conversation_id
                                               AND m.user_id = r.sender_id)
                             UNION ALL SELECT n.sender_id, n.seq) AS f (user_id, seq)
         WHERE n.parent_message_id IS NOT NULL
         ORDER BY f.seq
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION unread_replies(p_root bigint, p_user bigint, p_read_seq bigint) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT count(*) FROM (
        SELECT FROM messages x
         WHERE x.parent_message_id = p_root AND x.seq > p_read_seq AND x.sender_id <> p_user AND x.deleted_at IS NULL
         ORDER BY x.seq LIMIT 10000) y
$$;

-- A thread as somebody follows it, or does not.
CREATE FUNCTION following_json(p_root bigint, p_user bigint) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('message_id', p_root, 'following', f.user_id IS NOT NULL, 'read_seq', coalesce(f.read_seq, 0),
        'unread_count', CASE WHEN f.user_id IS NULL THEN 0 ELSE unread_replies(p_root, p_user, f.read_seq) END)
      FROM (SELECT) AS one LEFT JOIN thread_followers f ON f.root_message_id = p_root AND f.user_id = p_user
$$;

-- Their other connections hear of it.
CREATE FUNCTION following_outcome(c conversations, p_root bigint, p_actor bigint) RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
BEGIN
    o.conversation_id := c.id;
    o.result := following_json(p_root, p_actor);
    o.notices := jsonb_build_array(jsonb_build_object('users', ARRAY[p_actor], 'kind', 'thread_follow_updated',
                                                      'payload', o.result));
    RETURN o;
END $$;

CREATE OR REPLACE FUNCTION mutate_follow_thread(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    c conversations := locked_conversation(p_conversation);
    m conversation_members := acting_member(c, p_actor);
    h message_head := message_in(c, p_arguments);
    v_root bigint := coalesce(h.parent_message_id, h.id);
BEGIN
    IF (p_arguments -> 'following')::boolean THEN
        INSERT INTO thread_followers (root_message_id, user_id, conversation_id, read_seq)
        VALUES (v_root, p_actor, c.id, c.last_seq) ON CONFLICT DO NOTHING;
    ELSE
        DELETE FROM thread_followers x WHERE x.root_message_id = v_root AND x.user_id = p_actor;
    END IF;
    RETURN following_outcome(c, v_root, p_actor);
END $$;

CREATE FUNCTION mutate_mark_thread_read(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    c conversations := locked_conversation(p_conversation);
    m conversation_members := acting_member(c, p_actor);
    h message_head := message_in(c, p_arguments);
    v_root bigint := coalesce(h.parent_message_id, h.id);
    v_seq  bigint := least((p_arguments -> 'seq')::bigint, c.last_seq);
    o mutation_outcome;
BEGIN
    IF NOT EXISTS (SELECT FROM thread_followers x WHERE x.root_message_id = v_root AND x.user_id = p_actor) THEN
        PERFORM refuse('conflict', 'you do not follow this thread; follow it first (follow_thread)');
    END IF;
    UPDATE thread_followers x SET read_seq = v_seq
     WHERE x.root_message_id = v_root AND x.user_id = p_actor AND x.read_seq < v_seq;
    IF FOUND THEN
        RETURN following_outcome(c, v_root, p_actor);
    END IF;
    o.conversation_id := c.id;
    o.result := following_json(v_root, p_actor);
    RETURN o;
END $$;

-- Not in the change log: a marker is the reader's own, it moves forward only, and repeating it changes nothing. Members see
-- it unless the reader wants it private, or they are so many that everybody's markers would be most of what is sent.
CREATE OR REPLACE FUNCTION mutate_mark_read(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    v_before  bigint;
    v_after   bigint;
    v_payload jsonb;
BEGIN
    SELECT m.read_seq INTO v_before FROM conversation_members m WHERE m.conversation_id = c.id AND m.user_id = p_actor;
    IF NOT FOUND THEN
        PERFORM refuse('not_member', 'you are not a member of this conversation');
    END IF;
    v_after := greatest(v_before, least((p_arguments -> 'seq')::bigint, c.last_seq));
    o.conversation_id := c.id;
    IF v_after > v_before THEN
        UPDATE conversation_members m SET read_seq = v_after WHERE m.conversation_id = c.id AND m.user_id = p_actor;
        v_payload := jsonb_build_object('user_id', p_actor, 'read_seq', v_after);
        IF (SELECT u.receipts_private FROM users u WHERE u.id = p_actor)
           OR (SELECT s.member_count > 1000 FROM conversation_statistics s WHERE s.conversation_id = c.id) THEN
            o.notices := jsonb_build_array(jsonb_build_object('users', ARRAY[p_actor], 'kind', 'read_updated', 'payload', v_payload));
        ELSE
            o.signal := jsonb_build_object('kind', 'read_updated', 'payload', v_payload);
        END IF;
    END IF;
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'read_seq', v_after,
        'unread_count', unread_messages(c.id, p_actor, v_after));
    RETURN o;
END $$;

-- From the beginning, unless the end before some place is asked for.
CREATE OR REPLACE FUNCTION read_get_thread(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    m messages := readable_message(p_arguments);
    v_root   bigint := coalesce(m.parent_message_id, m.id);
    v_limit  bigint := (p_arguments -> 'limit')::bigint;
    v_before bigint := (p_arguments ->> 'before_seq')::bigint;
    v_after  bigint := (p_arguments ->> 'after_seq')::bigint;
    v_ids    bigint[];
    v_more   boolean;
BEGIN
    IF v_before IS NULL THEN
        v_ids := ARRAY(SELECT x.id FROM messages x WHERE x.parent_message_id = v_root AND x.seq > coalesce(v_after, 0)
                        ORDER BY x.seq LIMIT v_limit + 1);
    ELSE
        v_ids := ARRAY(SELECT x.id FROM messages x WHERE x.parent_message_id = v_root AND x.seq < v_before
                        ORDER BY x.seq DESC LIMIT v_limit + 1);
    END IF;
    v_more := cardinality(v_ids) > v_limit; -- one more than asked for, at the far end
    RETURN following_json(v_root, app_user_id()) - 'message_id' || jsonb_build_object(
        'root', (SELECT s.json FROM shown_messages s WHERE s.id = v_root),
        'messages', (SELECT coalesce(jsonb_agg(s.json ORDER BY CASE WHEN v_before IS NULL THEN i.n ELSE -i.n END), '[]')
                       FROM unnest(v_ids[1 : v_limit::integer]) WITH ORDINALITY AS i (id, n)
                       JOIN shown_messages s ON s.id = i.id),
        'has_more', v_more);
END $$;
DROP FUNCTION follows_thread(bigint);

-- The threads that the reader follows and that have replies, the newest reply first.
CREATE FUNCTION read_list_threads(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_limit bigint := (p_arguments -> 'limit')::bigint;
BEGIN
    IF p_arguments ->> 'conversation' IS NOT NULL THEN
        PERFORM require_access(p_arguments);
    END IF;
    RETURN page_json('threads', (
        SELECT jsonb_agg(jsonb_build_object(
                   'key', ((extract(epoch FROM t.last_reply_at) * 1000000)::bigint)::text || '.' || s.id,
                   'value', jsonb_build_object('root', s.json, 'last_reply_at', rfc3339(t.last_reply_at),
                       'read_seq', t.read_seq, 'unread_count', unread_replies(s.id, app_user_id(), t.read_seq)))
                   ORDER BY t.last_reply_at DESC, s.id DESC)
          FROM (SELECT f.root_message_id, f.read_seq, s.last_reply_at
                  FROM thread_followers f JOIN thread_statistics s ON s.root_message_id = f.root_message_id
                 WHERE f.user_id = app_user_id()
                   AND (p_arguments ->> 'conversation' IS NULL OR f.conversation_id = (p_arguments -> 'conversation')::bigint)
                   AND (s.last_reply_at, s.root_message_id) < (
                       coalesce(to_timestamp(0) + (p_arguments -> 'cursor_us')::bigint * interval '1 microsecond', 'infinity'),
                       coalesce((p_arguments -> 'cursor_id')::bigint, 9007199254740991))
                 ORDER BY s.last_reply_at DESC, s.root_message_id DESC LIMIT v_limit + 1) t
          JOIN shown_messages s ON s.id = t.root_message_id), v_limit);
END $$;
