-- What happens to a message after it was sent: edits, deletion, pins, reactions, mentions, threads.
--
-- A mutation stores in the change log what it did, never a message's text: texts stand in messages and message_edits
-- alone, so a deletion takes them out of everything at once. Whoever replays the log is given the text as it is now
-- (event_payload); who heard the event when it happened was given it by the mutation itself.

ALTER TABLE conversations
    ADD COLUMN slow_mode_s  integer NOT NULL DEFAULT 0 CHECK (slow_mode_s BETWEEN 0 AND 21600),
    ADD COLUMN member_limit integer CHECK (member_limit BETWEEN 1 AND 1000000);

-- Texts that an edit replaced; the present one stands in messages.
CREATE TABLE message_edits (
    message_id      bigint      NOT NULL,
    number          integer     NOT NULL,
    conversation_id bigint      NOT NULL,
    content         text        NOT NULL,
    written_at      timestamptz NOT NULL,
    PRIMARY KEY (message_id, number)
);

CREATE TABLE message_reactions (
    message_id      bigint      NOT NULL,
    emoji           text        NOT NULL CHECK (octet_length(emoji) BETWEEN 1 AND 64),
    user_id         bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    conversation_id bigint      NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (message_id, emoji, user_id)
);

CREATE TABLE message_pins (
    conversation_id bigint      NOT NULL REFERENCES conversations ON DELETE CASCADE,
    message_id      bigint      NOT NULL,
    pinned_by       bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    pinned_at       timestamptz NOT NULL DEFAULT now(),
    seq             bigint      NOT NULL,
    PRIMARY KEY (conversation_id, message_id)
);

CREATE TABLE thread_followers (
    root_message_id bigint NOT NULL,
    user_id         bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    conversation_id bigint NOT NULL,
    PRIMARY KEY (root_message_id, user_id)
);
CREATE INDEX thread_followers_by_user ON thread_followers (user_id, root_message_id);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['message_edits', 'message_reactions', 'message_pins', 'thread_followers'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY app_reads ON %I FOR SELECT TO chat_app
                        USING (conversation_id IN (SELECT app_conversations()))', t);
        EXECUTE format('GRANT SELECT ON %I TO chat_app', t);
        EXECUTE format('CREATE POLICY writer_looks_up ON %I FOR SELECT TO chat_writer USING (true)', t);
        EXECUTE format('CREATE POLICY writer_removes ON %I FOR DELETE TO chat_writer USING (true)', t);
    END LOOP;
END $$;
-- A row of somebody's in a conversation is theirs to make only while they are a member.
CREATE POLICY writer_reacts ON message_reactions FOR INSERT TO chat_writer WITH CHECK (EXISTS (
    SELECT FROM conversation_members m
     WHERE m.conversation_id = message_reactions.conversation_id AND m.user_id = message_reactions.user_id));
CREATE POLICY writer_pins ON message_pins FOR INSERT TO chat_writer WITH CHECK (EXISTS (
    SELECT FROM conversation_members m
     WHERE m.conversation_id = message_pins.conversation_id AND m.user_id = message_pins.pinned_by));
CREATE POLICY writer_follows ON thread_followers FOR INSERT TO chat_writer WITH CHECK (EXISTS (
    SELECT FROM conversation_members m
     WHERE m.conversation_id = thread_followers.conversation_id AND m.user_id = thread_followers.user_id));
CREATE POLICY writer_keeps ON message_edits FOR INSERT TO chat_writer WITH CHECK (EXISTS (
    SELECT FROM messages m WHERE m.id = message_edits.message_id AND m.conversation_id = message_edits.conversation_id));
CREATE POLICY writer_changes ON messages FOR UPDATE TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_removes ON message_mentions FOR DELETE TO chat_writer USING (true);

-- Of edits the writer sees which there are, not what they say: like messages.content, content is missing here.
GRANT SELECT (message_id, number, conversation_id, written_at) ON message_edits TO chat_writer;
GRANT SELECT ON message_reactions, message_pins, thread_followers TO chat_writer;
GRANT INSERT, DELETE ON message_edits, message_reactions, message_pins, thread_followers TO chat_writer;
GRANT UPDATE (content, edited_at, deleted_at) ON messages TO chat_writer;
GRANT SELECT (edited_at) ON messages TO chat_writer;
GRANT DELETE ON message_mentions, thread_statistics TO chat_writer;
GRANT UPDATE (slow_mode_s, member_limit) ON conversations TO chat_writer;

-- What one mutation tells people of it beside the log: notices is [{users, kind, payload}], to the connections of those
-- users, wherever they are.
ALTER TYPE mutation_outcome ADD ATTRIBUTE notices jsonb;

-- What became of each mutation, for as long as it may be submitted again: after a connection was lost in the middle nobody
-- knows whether it was committed, and doing it once more would undo what came after it (a join after a removal). Texts are
-- not kept here either: whoever submits again has them. Swept after a day.
CREATE TABLE mutation_outcomes (
    mutation_id bigint      PRIMARY KEY,
    actor_id    bigint      NOT NULL,
    outcome     jsonb       NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX mutation_outcomes_by_age ON mutation_outcomes (created_at);
ALTER TABLE mutation_outcomes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY writer_remembers ON mutation_outcomes TO chat_writer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, DELETE ON mutation_outcomes TO chat_writer;
DROP FUNCTION apply_mutations(text[], bigint[], bigint[], bigint[], jsonb[]);
CREATE FUNCTION apply_mutations(
    p_kind text[], p_conversation bigint[], p_actor bigint[], p_mutation_id bigint[], p_arguments jsonb[])
RETURNS TABLE (ord bigint, verdict text, detail text, conversation_id bigint, events jsonb, result jsonb,
    gained bigint[], lost bigint[], signal jsonb, notices jsonb)
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    o mutation_outcome;
BEGIN
    PERFORM FROM conversations c WHERE c.id = ANY (p_conversation) ORDER BY c.id FOR UPDATE;
    FOR i IN 1 .. cardinality(p_kind) LOOP
        ord := i; verdict := 'committed'; detail := NULL; o := NULL;
        BEGIN -- a sub-transaction: one row's refusal or fault leaves the others alone
            SELECT (jsonb_populate_record(NULL::mutation_outcome, r.outcome)).* INTO o
              FROM mutation_outcomes r WHERE r.mutation_id = p_mutation_id[i] AND r.actor_id = p_actor[i];
            IF NOT FOUND THEN
                EXECUTE format('SELECT * FROM %I($1, $2, $3, $4)', 'mutate_' || p_kind[i])
                   INTO o USING p_conversation[i], p_actor[i], p_mutation_id[i], p_arguments[i];
                -- What appended nothing to a log does the same again, or nothing.
                IF o.events IS NOT NULL THEN
                    INSERT INTO mutation_outcomes (mutation_id, actor_id, outcome)
                    VALUES (p_mutation_id[i], p_actor[i], to_jsonb(o) #- '{events,0,payload,content}');
                END IF;
            ELSIF p_arguments[i] ? 'content' THEN
                o.events := jsonb_set(o.events, '{0,payload,content}', p_arguments[i] -> 'content');
            END IF;
        EXCEPTION
            WHEN SQLSTATE 'VZ001' THEN
                GET STACKED DIAGNOSTICS verdict = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
            WHEN deadlock_detected OR serialization_failure OR query_canceled OR admin_shutdown THEN
                RAISE; -- the whole statement is submitted again
            WHEN OTHERS THEN
                verdict := 'internal'; detail := SQLERRM;
        END;
        conversation_id := o.conversation_id; events := o.events; result := o.result;
        gained := o.gained; lost := o.lost; signal := o.signal; notices := o.notices;
        RETURN NEXT;
    END LOOP;
END $$;

CREATE FUNCTION actor_json(p_actor bigint) RETURNS jsonb LANGUAGE sql STABLE AS
    $$ SELECT user_json(u) FROM users u WHERE u.id = p_actor $$;

CREATE FUNCTION mention_notices(p_conversation bigint, p_message bigint, p_seq bigint, p_sender bigint, p_users bigint[])
RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN cardinality(array_remove(p_users, p_sender)) > 0 THEN jsonb_build_array(jsonb_build_object(
        'users', array_remove(p_users, p_sender), 'kind', 'mention', 'payload', jsonb_build_object(
            'message_id', p_message, 'seq', p_seq, 'sender', actor_json(p_sender)))) END
$$;

-- Names after an @ that begins a word, outside of `code` and ```blocks```.
CREATE FUNCTION mentioned_names(p_content text) RETURNS TABLE (name text) LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT DISTINCT lower(found.groups[1])
      FROM regexp_matches(regexp_replace(regexp_replace(p_content, '```.*?```', ' ', 'g'), '`[^`]*`', ' ', 'g'),
                          '(?:^|[^A-Za-z0-9_@.-])@([A-Za-z0-9_-]{3,50})', 'g') AS found (groups)
$$;

-- Everybody is named by @room and @here: by moderators and up, and where that are not too many.
CREATE OR REPLACE FUNCTION record_mentions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        DELETE FROM message_mentions x USING new_messages n WHERE x.message_id = n.id;
    END IF;
    IF EXISTS (SELECT FROM new_messages WHERE strpos(content, '@') > 0) THEN
        INSERT INTO message_mentions (message_id, user_id, conversation_id, seq)
        SELECT DISTINCT n.id, m.user_id, n.conversation_id, n.seq
          FROM new_messages n
         CROSS JOIN LATERAL mentioned_names(n.content) AS mentioned
         CROSS JOIN LATERAL (
               SELECT m.user_id FROM users u
                 JOIN conversation_members m ON m.conversation_id = n.conversation_id AND m.user_id = u.id
                WHERE lower(u.username) = mentioned.name
               UNION ALL
               SELECT m.user_id FROM conversation_members m
                WHERE mentioned.name IN ('room', 'here') AND m.conversation_id = n.conversation_id AND m.user_id <> n.sender_id
                  AND EXISTS (SELECT FROM conversation_members s WHERE s.conversation_id = n.conversation_id
                                 AND s.user_id = n.sender_id AND s.role >= 'moderator')
                  AND EXISTS (SELECT FROM conversation_statistics t WHERE t.conversation_id = n.conversation_id
                                 AND t.member_count <= 1000)) m
         WHERE strpos(n.content, '@') > 0 AND NOT is_blocked(n.sender_id, m.user_id);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER record_mentions_again AFTER UPDATE ON messages
    REFERENCING NEW TABLE AS new_messages FOR EACH STATEMENT EXECUTE FUNCTION record_mentions();

-- Keeps the text that an edit replaces; a deletion takes all of them.
CREATE FUNCTION keep_edits() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO message_edits (message_id, number, conversation_id, content, written_at)
    SELECT o.id, (SELECT count(*) FROM message_edits e WHERE e.message_id = o.id), o.conversation_id, o.content,
           coalesce(o.edited_at, o.created_at)
      FROM old_messages o JOIN new_messages n ON n.id = o.id
     WHERE o.content <> n.content AND n.deleted_at IS NULL;
    DELETE FROM message_edits e USING new_messages n WHERE e.message_id = n.id AND n.deleted_at IS NOT NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER keep_edits AFTER UPDATE ON messages
    REFERENCING OLD TABLE AS old_messages NEW TABLE AS new_messages FOR EACH STATEMENT EXECUTE FUNCTION keep_edits();

-- Whoever begins a thread or replies in it follows it.
CREATE OR REPLACE FUNCTION count_replies() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM new_messages WHERE parent_message_id IS NOT NULL) THEN
        INSERT INTO thread_statistics AS t (root_message_id, conversation_id, reply_count, last_reply_at)
        SELECT parent_message_id, conversation_id, count(*), max(created_at)
          FROM new_messages WHERE parent_message_id IS NOT NULL
         GROUP BY parent_message_id, conversation_id ORDER BY parent_message_id
        ON CONFLICT (root_message_id) DO UPDATE
            SET reply_count = t.reply_count + excluded.reply_count, last_reply_at = excluded.last_reply_at;
        INSERT INTO thread_followers (root_message_id, user_id, conversation_id)
        SELECT n.parent_message_id, f.user_id, n.conversation_id
          FROM new_messages n
         CROSS JOIN LATERAL (SELECT n.sender_id UNION
                             SELECT r.sender_id FROM messages r WHERE r.id = n.parent_message_id
                                AND EXISTS (SELECT FROM conversation_members m WHERE m.conversation_id = n.conversation_id
                                               AND m.user_id = r.sender_id)) AS f (user_id)
         WHERE n.parent_message_id IS NOT NULL
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;

-- What thread_updated says of a thread; nothing for no thread.
CREATE FUNCTION thread_json(p_conversation bigint, p_root bigint) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN p_root IS NOT NULL THEN (
        SELECT jsonb_build_object('message_id', p_root, 'reply_count', coalesce(t.reply_count, 0),
                                  'last_reply_at', rfc3339(t.last_reply_at))
          FROM (SELECT) AS one
          LEFT JOIN thread_statistics t ON t.root_message_id = p_root AND t.conversation_id = p_conversation) END
$$;

-- An event as whoever replays the log is told it: with the text as it is now, and the thread that it is about.
CREATE FUNCTION event_payload(p_conversation bigint, p_kind text, p_payload jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT CASE p_kind
        WHEN 'message_edited' THEN p_payload || (
            SELECT jsonb_build_object('content', CASE WHEN m.deleted_at IS NULL THEN m.content ELSE '' END,
                       'mentions', (SELECT coalesce(jsonb_agg(x.user_id ORDER BY x.user_id), '[]') FROM message_mentions x
                                     WHERE x.message_id = m.id),
                       'edited_at', coalesce(rfc3339(m.edited_at), p_payload ->> 'edited_at'))
                   || CASE WHEN m.deleted_at IS NULL THEN '{}' ELSE '{"deleted": true}'::jsonb END
              FROM messages m
             WHERE m.id = (p_payload -> 'message_id')::bigint AND m.conversation_id = p_conversation)
        WHEN 'message_deleted' THEN p_payload || jsonb_build_object(
            'thread', thread_json(p_conversation, (p_payload ->> 'parent_message_id')::bigint))
        ELSE p_payload END
$$;

-- The member who acts. Whoever may not do anything here is refused with the reason.
CREATE FUNCTION acting_member(c conversations, p_actor bigint) RETURNS conversation_members LANGUAGE plpgsql AS $$
DECLARE
    m conversation_members;
BEGIN
    SELECT * INTO m FROM conversation_members x WHERE x.conversation_id = c.id AND x.user_id = p_actor;
    IF NOT FOUND THEN
        IF EXISTS (SELECT FROM conversation_bans b WHERE b.conversation_id = c.id AND b.user_id = p_actor) THEN
            PERFORM refuse('banned', 'you are banned from this conversation; a moderator can lift it');
        END IF;
        PERFORM refuse('not_member', 'you are not a member of this conversation; join it first');
    END IF;
    RETURN m;
END $$;

-- The same for somebody who says something: not where the conversation or the member may only read.
CREATE FUNCTION speaking_member(c conversations, p_actor bigint) RETURNS conversation_members LANGUAGE plpgsql AS $$
DECLARE
    m conversation_members := acting_member(c, p_actor);
BEGIN
    IF c.archived_at IS NOT NULL THEN
        PERFORM refuse('read_only', 'the conversation is archived; nothing in it can be changed');
    ELSIF m.role = 'read_only' THEN
        PERFORM refuse('read_only', 'your role in this conversation is read-only');
    ELSIF m.muted_until > now() THEN
        PERFORM refuse('muted', 'you are muted in this conversation for a while');
    ELSIF c.kind = 'direct' AND is_blocked(c.direct_low, c.direct_high) THEN
        PERFORM refuse('blocked', 'one of you has blocked the other; nothing passes between you');
    END IF;
    RETURN m;
END $$;

-- The columns of a message that a mutation may look at.
CREATE TYPE message_head AS (id bigint, seq bigint, sender_id bigint, parent_message_id bigint, created_at timestamptz,
    edited_at timestamptz, deleted_at timestamptz);

CREATE FUNCTION message_in(c conversations, p_arguments jsonb) RETURNS message_head LANGUAGE plpgsql AS $$
DECLARE
    h message_head;
BEGIN
    SELECT x.id, x.seq, x.sender_id, x.parent_message_id, x.created_at, x.edited_at, x.deleted_at INTO h
      FROM messages x WHERE x.id = (p_arguments -> 'message_id')::bigint AND x.conversation_id = c.id;
    IF NOT FOUND THEN
        PERFORM refuse('not_found', 'data.message_id: there is no such message in this conversation');
    END IF;
    RETURN h;
END $$;

CREATE FUNCTION refuse_deleted(h message_head) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF h.deleted_at IS NOT NULL THEN
        PERFORM refuse('not_found', 'data.message_id: this message was deleted');
    END IF;
END $$;

-- Appends the event of a mutation. `p_now` is what those are told who hear of it now, beside what is stored.
CREATE FUNCTION append_told(c conversations, p_kind text, p_actor bigint, p_mutation_id bigint, p_stored jsonb, p_now jsonb)
RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    v_event jsonb := append_event(c.id, p_kind, p_actor, p_mutation_id, p_stored);
BEGIN
    RETURN jsonb_set(v_event, '{payload}', v_event -> 'payload' || p_now);
END $$;

CREATE FUNCTION mutate_edit_message(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := speaking_member(c, p_actor);
    h message_head := message_in(c, p_arguments);
    v_window   bigint := (p_arguments -> 'window_s')::bigint;
    v_before   bigint[];
    v_mentions bigint[];
    v_event    jsonb;
BEGIN
    PERFORM refuse_deleted(h);
    IF h.sender_id <> p_actor THEN
        PERFORM refuse('forbidden', 'only its author can edit a message');
    ELSIF (SELECT count(*) FROM message_edits e WHERE e.message_id = h.id) >= 50 THEN
        PERFORM refuse('conflict', 'a message can be edited 50 times; write a new one');
    ELSIF v_window > 0 AND h.created_at < now() - make_interval(secs => v_window) THEN
        PERFORM refuse('forbidden', format('a message can be edited for %s seconds after it was sent', v_window));
    END IF;
    SELECT array_agg(x.user_id) INTO v_before FROM message_mentions x WHERE x.message_id = h.id;
    UPDATE messages x SET content = p_arguments ->> 'content', edited_at = date_trunc('milliseconds', now())
     WHERE x.id = h.id
    RETURNING x.edited_at INTO h.edited_at;
    SELECT array_agg(x.user_id ORDER BY x.user_id) INTO v_mentions FROM message_mentions x WHERE x.message_id = h.id;
    v_event := append_told(c, 'message_edited', p_actor, p_mutation_id,
        jsonb_build_object('message_id', h.id, 'actor', actor_json(p_actor), 'edited_at', rfc3339(h.edited_at)),
        jsonb_build_object('content', p_arguments ->> 'content', 'mentions', coalesce(to_jsonb(v_mentions), '[]')));
    o.conversation_id := c.id;
    o.events := jsonb_build_array(v_event);
    o.result := jsonb_build_object('message_id', h.id, 'seq', v_event -> 'seq', 'edited_at', rfc3339(h.edited_at));
    o.notices := mention_notices(c.id, h.id, h.seq, p_actor, array(
        SELECT x FROM unnest(v_mentions) x WHERE x <> ALL (coalesce(v_before, '{}'))));
    RETURN o;
END $$;

CREATE FUNCTION mutate_delete_message(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := acting_member(c, p_actor);
    h message_head := message_in(c, p_arguments);
    v_author member_role;
    v_event  jsonb;
BEGIN
    o.conversation_id := c.id;
    IF h.sender_id <> p_actor THEN
        SELECT x.role INTO v_author FROM conversation_members x WHERE x.conversation_id = c.id AND x.user_id = h.sender_id;
        IF m.role < 'moderator' OR m.role <= v_author THEN
            PERFORM refuse('forbidden', 'only its author, or a moderator above them, can delete a message');
        END IF;
    END IF;
    IF c.archived_at IS NOT NULL THEN
        PERFORM refuse('read_only', 'the conversation is archived; nothing in it can be changed');
    END IF;
    IF h.deleted_at IS NOT NULL THEN
        o.result := jsonb_build_object('message_id', h.id, 'seq', c.last_seq);
        RETURN o;
    END IF;
    UPDATE messages x SET content = '', deleted_at = now() WHERE x.id = h.id;
    DELETE FROM message_reactions x WHERE x.message_id = h.id;
    DELETE FROM message_pins x WHERE x.conversation_id = c.id AND x.message_id = h.id;
    IF h.parent_message_id IS NOT NULL THEN
        UPDATE thread_statistics t SET reply_count = t.reply_count - 1,
               last_reply_at = coalesce((SELECT max(x.created_at) FROM messages x
                                 WHERE x.parent_message_id = h.parent_message_id AND x.deleted_at IS NULL), t.last_reply_at)
         WHERE t.root_message_id = h.parent_message_id;
        DELETE FROM thread_statistics t WHERE t.root_message_id = h.parent_message_id AND t.reply_count <= 0;
    END IF;
    v_event := append_told(c, 'message_deleted', p_actor, p_mutation_id,
        jsonb_build_object('message_id', h.id, 'parent_message_id', h.parent_message_id, 'actor', actor_json(p_actor)),
        jsonb_build_object('thread', thread_json(c.id, h.parent_message_id)));
    o.events := jsonb_build_array(v_event);
    o.result := jsonb_build_object('message_id', h.id, 'seq', v_event -> 'seq');
    RETURN o;
END $$;

CREATE FUNCTION mutate_pin_message(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := speaking_member(c, p_actor);
    h message_head := message_in(c, p_arguments);
    v_pinned boolean := (p_arguments -> 'pinned')::boolean;
    v_is     boolean;
    v_event  jsonb;
BEGIN
    o.conversation_id := c.id;
    PERFORM refuse_deleted(h);
    IF c.kind <> 'direct' AND m.role < 'moderator' THEN
        PERFORM refuse('forbidden', 'pinning is for moderators and up');
    END IF;
    v_is := EXISTS (SELECT FROM message_pins x WHERE x.conversation_id = c.id AND x.message_id = h.id);
    IF v_is = v_pinned THEN
        o.result := jsonb_build_object('message_id', h.id, 'pinned', v_pinned, 'seq', c.last_seq);
        RETURN o;
    ELSIF v_pinned AND (SELECT count(*) FROM message_pins x WHERE x.conversation_id = c.id) >= 50 THEN
        PERFORM refuse('conflict', 'a conversation can have 50 pinned messages; unpin one first');
    END IF;
    v_event := append_event(c.id, 'message_pinned', p_actor, p_mutation_id,
        jsonb_build_object('message_id', h.id, 'pinned', v_pinned, 'actor', actor_json(p_actor)));
    IF NOT v_pinned THEN
        DELETE FROM message_pins x WHERE x.conversation_id = c.id AND x.message_id = h.id;
    ELSE
        INSERT INTO message_pins (conversation_id, message_id, pinned_by, seq)
        VALUES (c.id, h.id, p_actor, (v_event -> 'seq')::bigint);
    END IF;
    o.events := jsonb_build_array(v_event);
    o.result := jsonb_build_object('message_id', h.id, 'pinned', v_pinned, 'seq', v_event -> 'seq');
    RETURN o;
END $$;

CREATE FUNCTION change_reaction(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb, p_add boolean)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := speaking_member(c, p_actor);
    h message_head := message_in(c, p_arguments);
    v_emoji text := p_arguments ->> 'emoji';
    v_has   boolean;
    v_count bigint;
    v_event jsonb;
BEGIN
    o.conversation_id := c.id;
    PERFORM refuse_deleted(h);
    v_has := EXISTS (SELECT FROM message_reactions x WHERE x.message_id = h.id AND x.emoji = v_emoji AND x.user_id = p_actor);
    IF p_add AND NOT v_has THEN
        IF NOT EXISTS (SELECT FROM message_reactions x WHERE x.message_id = h.id AND x.emoji = v_emoji)
           AND (SELECT count(DISTINCT x.emoji) FROM message_reactions x WHERE x.message_id = h.id) >= 20 THEN
            PERFORM refuse('conflict', 'a message can have 20 different reactions; use one of those that are there');
        END IF;
        INSERT INTO message_reactions (message_id, emoji, user_id, conversation_id) VALUES (h.id, v_emoji, p_actor, c.id);
    ELSIF NOT p_add AND v_has THEN
        DELETE FROM message_reactions x WHERE x.message_id = h.id AND x.emoji = v_emoji AND x.user_id = p_actor;
    END IF;
    SELECT count(*) INTO v_count FROM message_reactions x WHERE x.message_id = h.id AND x.emoji = v_emoji;
    IF v_has = p_add THEN
        o.result := jsonb_build_object('message_id', h.id, 'emoji', v_emoji, 'count', v_count, 'seq', c.last_seq);
        RETURN o;
    END IF;
    v_event := append_event(c.id, CASE WHEN p_add THEN 'reaction_added' ELSE 'reaction_removed' END, p_actor, p_mutation_id,
        jsonb_build_object('message_id', h.id, 'emoji', v_emoji, 'count', v_count, 'user', actor_json(p_actor)));
    o.events := jsonb_build_array(v_event);
    o.result := jsonb_build_object('message_id', h.id, 'emoji', v_emoji, 'count', v_count, 'seq', v_event -> 'seq');
    RETURN o;
END $$;

CREATE FUNCTION mutate_add_reaction(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE sql AS $$ SELECT change_reaction(p_conversation, p_actor, p_mutation_id, p_arguments, true) $$;
CREATE FUNCTION mutate_remove_reaction(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE sql AS $$ SELECT change_reaction(p_conversation, p_actor, p_mutation_id, p_arguments, false) $$;

-- Like the reader's marker, whom a thread interests is their own business and not in the change log.
CREATE FUNCTION mutate_follow_thread(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := acting_member(c, p_actor);
    h message_head := message_in(c, p_arguments);
    v_root bigint := coalesce(h.parent_message_id, h.id);
BEGIN
    o.conversation_id := c.id;
    IF (p_arguments -> 'following')::boolean THEN
        INSERT INTO thread_followers (root_message_id, user_id, conversation_id) VALUES (v_root, p_actor, c.id)
        ON CONFLICT DO NOTHING;
    ELSE
        DELETE FROM thread_followers x WHERE x.root_message_id = v_root AND x.user_id = p_actor;
    END IF;
    o.result := jsonb_build_object('message_id', v_root, 'following', p_arguments -> 'following');
    RETURN o;
END $$;
