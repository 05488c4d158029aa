-- Who comes and who goes is said among the messages: a message of type system follows the member_joined, or precedes the
-- member_left, that it is about, in the same transaction. (Whoever leaves hears nothing after their member_left.) It is
-- nobody's to edit, never unread, mentions nobody, is not searched, and moves no
-- conversation up in a list; whoever reads a history later finds it where it happened.

ALTER TABLE messages ADD COLUMN system jsonb;
CREATE POLICY writer_reports ON messages FOR INSERT TO chat_writer WITH CHECK (
    message_type = 'system' AND system IS NOT NULL AND parent_message_id IS NULL AND client_message_id IS NULL);
GRANT SELECT (message_type) ON messages TO chat_writer;

CREATE FUNCTION system_message(c conversations, p_kind text, p_user bigint, p_actor bigint) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v_id     bigint := nextval('message_ids');
    v_seq    bigint;
    v_user   jsonb := actor_json(p_user);
    v_actor  jsonb := actor_json(p_actor);
    v_system jsonb := jsonb_build_object('kind', p_kind, 'user', v_user, 'actor', CASE WHEN p_actor <> p_user THEN v_actor END);
    -- For clients that do not know the kind; those that do say it in the reader's language.
    v_content text := CASE WHEN p_actor = p_user THEN format('%s %s', v_user ->> 'display_name', p_kind)
                           ELSE format('%s %s %s', v_actor ->> 'display_name', p_kind, v_user ->> 'display_name') END;
BEGIN
    UPDATE conversations SET last_seq = last_seq + 1 WHERE id = c.id RETURNING last_seq INTO STRICT v_seq;
    INSERT INTO messages (id, conversation_id, seq, sender_id, message_type, content, system)
    VALUES (v_id, c.id, v_seq, p_actor, 'system', v_content, v_system);
    RETURN jsonb_build_object('seq', v_seq, 'kind', 'message_created', 'created_at', rfc3339(now()), 'payload', jsonb_build_object(
        'message_id', v_id, 'sender', v_actor, 'content', v_content, 'message_type', 'system', 'system', v_system,
        'parent_message_id', NULL, 'mentions', '[]'::jsonb, 'reactions', '[]'::jsonb, 'pinned', false, 'edited_at', NULL,
        'deleted', false, 'attachments', '[]'::jsonb));
END $$;

-- Whether somebody has come and gone here so often of late that it is not worth saying any more. Nobody is to speak by their
-- name, past mutes, slow mode and filters, by coming and going.
CREATE FUNCTION is_restless(c conversations, p_user bigint) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT count(*) >= 6
      FROM (SELECT x.sender_id, x.message_type, x.created_at FROM messages x
             WHERE x.conversation_id = c.id ORDER BY x.seq DESC LIMIT 200) m
     WHERE m.sender_id = p_user AND m.message_type = 'system' AND m.created_at > now() - interval '10 minutes'
$$;

CREATE FUNCTION refuse_system_edit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM refuse('forbidden', 'a system message cannot be edited');
    RETURN NULL;
END $$;
CREATE TRIGGER refuse_system_edit BEFORE UPDATE OF content ON messages FOR EACH ROW
    WHEN (OLD.message_type = 'system' AND NEW.deleted_at IS NULL) EXECUTE FUNCTION refuse_system_edit();

CREATE OR REPLACE FUNCTION count_messages() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO conversation_statistics AS s (conversation_id, message_count, last_message_at)
    SELECT conversation_id, count(*), max(created_at) FROM new_messages WHERE message_type <> 'system'
     GROUP BY conversation_id ORDER BY conversation_id
    ON CONFLICT (conversation_id) DO UPDATE
        SET message_count = s.message_count + excluded.message_count, last_message_at = excluded.last_message_at;
    RETURN NULL;
END $$;

-- Exact up to ten thousand, and ten thousand from there on: who has never read a large room would otherwise have all of it
-- counted, whenever their conversations are listed.
CREATE OR REPLACE FUNCTION unread_messages(p_conversation bigint, p_user bigint, p_read_seq bigint) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT count(*) FROM (
        SELECT FROM messages x
         WHERE x.conversation_id = p_conversation AND x.seq > p_read_seq AND x.sender_id <> p_user AND x.deleted_at IS NULL
           AND x.message_type <> 'system'
         ORDER BY x.seq LIMIT 10000) y
$$;

-- features.user_mentions switches mentions off: the server says so with the writer's connections (storage/connect.rs).
CREATE OR REPLACE FUNCTION record_mentions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        DELETE FROM message_mentions x USING new_messages n WHERE x.message_id = n.id;
    END IF;
    IF EXISTS (SELECT FROM new_messages WHERE strpos(content, '@') > 0)
       AND current_setting('app.user_mentions', true) IS DISTINCT FROM 'off' THEN
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
         WHERE strpos(n.content, '@') > 0 AND n.message_type <> 'system' AND NOT is_blocked(n.sender_id, m.user_id);
    END IF;
    RETURN NULL;
END $$;

-- A message as the wire contract has it. A view and not a function: it becomes part of the statement that asks, and is planned
-- once and not executed anew, with all that is in it, for each message. Under the reader's row level security.
CREATE VIEW shown_messages WITH (security_invoker = true) AS
SELECT m.id, m.content, jsonb_build_object(
        'message_id', m.id, 'conversation_id', conversation_text_id(m.conversation_id), 'seq', m.seq, 'sender', user_json(u),
        'content', CASE WHEN m.deleted_at IS NULL THEN m.content ELSE '' END, 'message_type', m.message_type,
        'parent_message_id', m.parent_message_id,
        'mentions', coalesce((SELECT jsonb_agg(x.user_id ORDER BY x.user_id) FROM message_mentions x WHERE x.message_id = m.id), '[]'),
        'reactions', CASE WHEN (SELECT true FROM message_reactions x WHERE x.message_id = m.id LIMIT 1)
                          THEN message_reactions_json(m.id) ELSE '[]' END,
        'pinned', coalesce((SELECT true FROM message_pins p
                             WHERE p.conversation_id = m.conversation_id AND p.message_id = m.id LIMIT 1), false),
        'edited_at', rfc3339(m.edited_at), 'deleted', m.deleted_at IS NOT NULL, 'attachments', '[]'::jsonb,
        'created_at', rfc3339(m.created_at))
        || CASE WHEN t.reply_count IS NOT NULL THEN jsonb_build_object('thread',
               jsonb_build_object('reply_count', t.reply_count, 'last_reply_at', rfc3339(t.last_reply_at))) ELSE '{}' END
        || CASE WHEN m.sender_id = app_user_id() AND NOT starts_with(m.client_message_id, E'\x01')
                THEN jsonb_build_object('client_message_id', m.client_message_id) ELSE '{}' END
        || CASE WHEN m.system IS NOT NULL AND m.deleted_at IS NULL THEN jsonb_build_object('system', m.system) ELSE '{}' END AS json
  FROM messages m JOIN users u ON u.id = m.sender_id LEFT JOIN thread_statistics t ON t.root_message_id = m.id;
GRANT SELECT ON shown_messages TO chat_app;

CREATE OR REPLACE FUNCTION read_list_pins(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_conversation bigint := require_access(p_arguments);
BEGIN
    RETURN jsonb_build_object('messages', (
        SELECT coalesce(jsonb_agg(s.json || jsonb_build_object('pinned_at', rfc3339(p.pinned_at), 'pinned_by', p.pinned_by)
                                  ORDER BY p.seq DESC), '[]')
          FROM message_pins p JOIN shown_messages s ON s.id = p.message_id WHERE p.conversation_id = v_conversation));
END $$;

CREATE OR REPLACE FUNCTION read_list_mentions(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_limit bigint := (p_arguments -> 'limit')::bigint;
BEGIN
    IF p_arguments ->> 'conversation' IS NOT NULL THEN
        PERFORM require_access(p_arguments);
    END IF;
    RETURN page_json('messages', (
        SELECT jsonb_agg(jsonb_build_object('key', s.id, 'value', s.json) ORDER BY s.id DESC)
          FROM (SELECT y.id FROM message_mentions x JOIN messages y ON y.id = x.message_id
                 WHERE x.user_id = app_user_id() AND y.deleted_at IS NULL
                   AND (p_arguments ->> 'conversation' IS NULL OR x.conversation_id = (p_arguments -> 'conversation')::bigint)
                   AND x.message_id < coalesce((p_arguments ->> 'cursor')::bigint, 9007199254740991)
                 ORDER BY x.message_id DESC LIMIT v_limit + 1) found
          JOIN shown_messages s ON s.id = found.id), v_limit);
END $$;

DROP FUNCTION message_json(messages);

ALTER TYPE message_head ADD ATTRIBUTE message_type message_type;
CREATE OR REPLACE FUNCTION message_in(c conversations, p_arguments jsonb) RETURNS message_head LANGUAGE plpgsql AS $$
DECLARE
    h message_head;
BEGIN
    SELECT x.id, x.seq, x.sender_id, x.parent_message_id, x.created_at, x.edited_at, x.deleted_at, x.message_type INTO h
      FROM messages x WHERE x.id = (p_arguments -> 'message_id')::bigint AND x.conversation_id = c.id;
    IF NOT FOUND THEN
        PERFORM refuse('not_found', 'data.message_id: there is no such message in this conversation');
    END IF;
    RETURN h;
END $$;

-- Who may delete a message: its author, or somebody who moderates and is above its author. A system message has none.
CREATE FUNCTION refuse_foreign_deletion(c conversations, m conversation_members, h message_head) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_author member_role;
BEGIN
    IF h.message_type = 'system' THEN
        IF m.role < 'moderator' THEN
            PERFORM refuse('forbidden', 'deleting system messages is for moderators and up');
        END IF;
    ELSIF h.sender_id <> m.user_id THEN
        SELECT x.role INTO v_author FROM conversation_members x WHERE x.conversation_id = c.id AND x.user_id = h.sender_id;
        IF m.role < 'moderator' OR m.role <= v_author THEN
            PERFORM refuse('forbidden', 'only its author, or a moderator above them, can delete a message');
        END IF;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION mutate_delete_message(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := acting_member(c, p_actor);
    h message_head := message_in(c, p_arguments);
    v_event jsonb;
BEGIN
    o.conversation_id := c.id;
    PERFORM refuse_foreign_deletion(c, m, h);
    IF c.archived_at IS NOT NULL THEN
        PERFORM refuse('read_only', 'the conversation is archived; nothing in it can be changed');
    END IF;
    IF h.deleted_at IS NOT NULL THEN
        o.result := jsonb_build_object('message_id', h.id, 'seq', c.last_seq);
        RETURN o;
    END IF;
    UPDATE messages x SET content = '', system = CASE WHEN h.message_type = 'system' THEN '{}'::jsonb END, deleted_at = now()
     WHERE x.id = h.id;
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
GRANT UPDATE (system) ON messages TO chat_writer;

-- Coming and going: both now return the entries that they appended, the report of it among them.

DROP FUNCTION add_member(conversations, bigint, bigint, bigint);
CREATE FUNCTION add_member(c conversations, p_user bigint, p_actor bigint, p_mutation_id bigint)
RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    r conversation_restrictions;
    v_quiet boolean := p_user = p_actor AND is_restless(c, p_user);
BEGIN
    IF NOT EXISTS (SELECT FROM users x WHERE x.id = p_user AND x.is_active) THEN
        PERFORM refuse('not_found', 'data.user_id: no such user');
    END IF;
    IF EXISTS (SELECT FROM conversation_bans b WHERE b.conversation_id = c.id AND b.user_id = p_user) THEN
        PERFORM refuse('banned', 'this user is banned from the conversation; a moderator can lift it');
    END IF;
    IF p_user <> p_actor AND is_blocked(p_user, p_actor) THEN
        PERFORM refuse('blocked', 'one of you has blocked the other; an invitation is not possible');
    END IF;
    IF c.archived_at IS NOT NULL THEN
        PERFORM refuse('read_only', 'the conversation is archived; nobody can join it');
    END IF;
    IF c.member_limit <= (SELECT s.member_count FROM conversation_statistics s WHERE s.conversation_id = c.id) THEN
        PERFORM refuse('conflict', format('the conversation is full: it can have %s members', c.member_limit));
    END IF;
    DELETE FROM conversation_restrictions x WHERE x.conversation_id = c.id AND x.user_id = p_user RETURNING * INTO r;
    -- The marker starts at the present, behind what is appended below: what was said before is history, not unread.
    INSERT INTO conversation_members (conversation_id, user_id, joined_seq, read_seq, role, muted_until)
    VALUES (c.id, p_user, c.last_seq + 1, c.last_seq + CASE WHEN v_quiet THEN 1 ELSE 2 END, coalesce(r.role, 'member'), r.muted_until);
    RETURN jsonb_build_array(
        append_event(c.id, 'member_joined', p_actor, p_mutation_id, jsonb_build_object(
            'user', actor_json(p_user), 'role', coalesce(r.role, 'member'), 'muted_until', rfc3339(r.muted_until),
            'invited_by', CASE WHEN p_actor <> p_user THEN actor_json(p_actor) END)))
        || CASE WHEN v_quiet THEN '[]'::jsonb
                ELSE jsonb_build_array(system_message(c, CASE WHEN p_actor = p_user THEN 'joined' ELSE 'added' END, p_user, p_actor)) END;
END $$;

DROP FUNCTION remove_from(conversations, bigint, bigint, bigint, text);
CREATE FUNCTION remove_member(c conversations, p_user bigint, p_actor bigint, p_mutation_id bigint, p_reason text)
RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO conversation_restrictions (conversation_id, user_id, role, muted_until)
    SELECT x.conversation_id, x.user_id, least(x.role, 'member'), x.muted_until FROM conversation_members x
     WHERE x.conversation_id = c.id AND x.user_id = p_user AND (x.role = 'read_only' OR x.muted_until > now());
    DELETE FROM conversation_members x WHERE x.conversation_id = c.id AND x.user_id = p_user;
    DELETE FROM thread_followers x WHERE x.conversation_id = c.id AND x.user_id = p_user;
    RETURN CASE WHEN p_user = p_actor AND is_restless(c, p_user) THEN '[]'::jsonb
                ELSE jsonb_build_array(system_message(c, p_reason, p_user, p_actor)) END
        || append_event(c.id, 'member_left', p_actor, p_mutation_id, jsonb_build_object(
               'user', actor_json(p_user), 'reason', p_reason, 'actor', actor_json(p_actor)));
END $$;

CREATE OR REPLACE FUNCTION mutate_join_conversation(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    v_seq bigint;
BEGIN
    o.conversation_id := c.id;
    SELECT m.joined_seq INTO v_seq FROM conversation_members m WHERE m.conversation_id = c.id AND m.user_id = p_actor;
    IF NOT FOUND THEN
        IF c.kind = 'private_room' THEN
            PERFORM refuse('forbidden', 'this room is private; ask to be let in (request_to_join), or a member for an invitation');
        ELSIF c.kind <> 'public_room' THEN
            PERFORM refuse('forbidden', 'only public rooms can be joined; ask a member for an invitation');
        END IF;
        o.events := add_member(c, p_actor, p_actor, p_mutation_id);
        o.gained := ARRAY[p_actor];
        v_seq := o.events -> 0 -> 'seq';
    END IF;
    o.result := jsonb_build_object('conversation', conversation_now(c.id, p_actor), 'seq', v_seq);
    RETURN o;
END $$;

CREATE OR REPLACE FUNCTION mutate_join_by_invite(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    i conversation_invites;
    v_seq bigint;
BEGIN
    o.conversation_id := c.id;
    SELECT m.joined_seq INTO v_seq FROM conversation_members m WHERE m.conversation_id = c.id AND m.user_id = p_actor;
    IF NOT FOUND THEN
        SELECT * INTO i FROM conversation_invites x WHERE x.code = p_arguments ->> 'code' AND x.conversation_id = c.id;
        IF NOT FOUND OR i.expires_at <= now() OR i.uses >= i.max_uses THEN
            PERFORM refuse('not_found', 'data.code: this invitation does not exist, has expired, or was used up');
        END IF;
        o.events := add_member(c, p_actor, i.created_by, p_mutation_id);
        o.notices := close_request(c, p_actor, i.created_by, 'accepted');
        UPDATE conversation_invites x SET uses = x.uses + 1 WHERE x.code = i.code;
        o.gained := ARRAY[p_actor];
        v_seq := o.events -> 0 -> 'seq';
    END IF;
    o.result := jsonb_build_object('conversation', conversation_now(c.id, p_actor), 'seq', v_seq);
    RETURN o;
END $$;

CREATE OR REPLACE FUNCTION mutate_invite_member(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    v_user bigint := p_arguments -> 'user_id';
    v_seq  bigint;
BEGIN
    o.conversation_id := c.id;
    IF c.kind = 'direct' THEN
        PERFORM acting_member(c, p_actor);
        PERFORM refuse('forbidden', 'nobody can be added to a direct conversation; create a group instead');
    END IF;
    PERFORM speaking_member(c, p_actor);
    SELECT m.joined_seq INTO v_seq FROM conversation_members m WHERE m.conversation_id = c.id AND m.user_id = v_user;
    IF NOT FOUND THEN
        o.events := add_member(c, v_user, p_actor, p_mutation_id);
        o.notices := close_request(c, v_user, p_actor, 'accepted');
        v_seq := o.events -> 0 -> 'seq';
        o.gained := ARRAY[v_user];
    END IF;
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user, 'seq', v_seq);
    RETURN o;
END $$;

CREATE OR REPLACE FUNCTION mutate_leave_conversation(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    v_heir bigint;
    v_seq  jsonb;
BEGIN
    o.conversation_id := c.id;
    PERFORM acting_member(c, p_actor);
    IF c.kind = 'direct' THEN
        PERFORM refuse('forbidden', 'a direct conversation cannot be left');
    END IF;
    o.events := remove_member(c, p_actor, p_actor, p_mutation_id, 'left');
    v_seq := o.events -> -1 -> 'seq';
    IF c.owner_id = p_actor THEN
        -- A conversation never ends without an owner: the highest role inherits, among equals the longest there.
        SELECT m.user_id INTO v_heir FROM conversation_members m WHERE m.conversation_id = c.id
         ORDER BY m.role DESC, m.joined_seq, m.user_id LIMIT 1;
        IF FOUND THEN
            UPDATE conversation_members m SET role = 'owner', muted_until = NULL
             WHERE m.conversation_id = c.id AND m.user_id = v_heir;
            UPDATE conversations x SET owner_id = v_heir WHERE x.id = c.id;
            o.events := o.events
                || append_event(c.id, 'member_updated', p_actor, p_mutation_id, jsonb_build_object(
                       'user', actor_json(v_heir), 'role', 'owner', 'muted_until', NULL, 'actor', actor_json(p_actor)))
                || append_event(c.id, 'conversation_updated', p_actor, p_mutation_id, jsonb_build_object(
                       'owner_id', v_heir, 'actor', actor_json(p_actor)));
        ELSE
            UPDATE conversations x SET archived_at = now() WHERE x.id = c.id;
            o.events := o.events || append_event(c.id, 'conversation_updated', p_actor, p_mutation_id,
                jsonb_build_object('archived', true, 'actor', actor_json(p_actor)));
        END IF;
    END IF;
    o.lost := ARRAY[p_actor];
    o.result := jsonb_build_object('conversation', conversation_now(c.id, p_actor), 'seq', v_seq);
    RETURN o;
END $$;

CREATE OR REPLACE FUNCTION mutate_remove_member(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := ruling_member(c, p_actor, 'moderator');
    v_user bigint := (p_arguments -> 'user_id')::bigint;
BEGIN
    o.conversation_id := c.id;
    PERFORM ruled_member(c, m, v_user);
    o.events := remove_member(c, v_user, p_actor, p_mutation_id, 'removed');
    o.lost := ARRAY[v_user];
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user,
                                   'seq', o.events -> -1 -> 'seq');
    RETURN o;
END $$;

CREATE OR REPLACE FUNCTION mutate_ban_member(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := ruling_member(c, p_actor, 'moderator');
    v_user bigint := (p_arguments -> 'user_id')::bigint;
BEGIN
    o.conversation_id := c.id;
    IF NOT EXISTS (SELECT FROM users u WHERE u.id = v_user) THEN
        PERFORM refuse('not_found', 'data.user_id: no such user');
    ELSIF EXISTS (SELECT FROM conversation_members x WHERE x.conversation_id = c.id AND x.user_id = v_user) THEN
        PERFORM ruled_member(c, m, v_user);
        o.events := remove_member(c, v_user, p_actor, p_mutation_id, 'banned');
    ELSIF NOT EXISTS (SELECT FROM conversation_bans b WHERE b.conversation_id = c.id AND b.user_id = v_user) THEN
        o.events := jsonb_build_array(append_event(c.id, 'member_updated', p_actor, p_mutation_id, jsonb_build_object(
            'user', actor_json(v_user), 'banned', true, 'actor', actor_json(p_actor))));
    END IF;
    INSERT INTO conversation_bans (conversation_id, user_id, banned_by, reason)
    VALUES (c.id, v_user, p_actor, p_arguments ->> 'reason') ON CONFLICT DO NOTHING;
    o.notices := close_request(c, v_user, p_actor, 'declined');
    o.lost := ARRAY[v_user];
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user,
                                   'seq', coalesce(o.events -> -1 -> 'seq', to_jsonb(c.last_seq)));
    RETURN o;
END $$;

-- The statement of V10, whose slow mode took the report that somebody came in for something they had said.
CREATE OR REPLACE FUNCTION commit_messages(
    p_conversation bigint[], p_sender bigint[], p_content text[], p_client_message_id text[], p_parent bigint[],
    p_message_type text[])
RETURNS TABLE (ord bigint, verdict text, message_id bigint, seq bigint, created_at timestamptz, parent_message_id bigint,
    username text, display_name text, mentions bigint[], retry_after_ms bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    -- The next statement's snapshot is taken under these locks: last_seq is what it says until the transaction ends.
    -- NO KEY, as the UPDATE below needs it: a foreign key that is checked meanwhile holds no commit up.
    PERFORM FROM conversations c WHERE c.id = ANY (p_conversation) ORDER BY c.id FOR NO KEY UPDATE;

    RETURN QUERY
    WITH found AS MATERIALIZED (
        SELECT i.*, c.id AS known_conversation, c.last_seq, c.archived_at, m.user_id AS member, m.role, m.muted_until,
               CASE WHEN c.slow_mode_s > 0 AND m.role < 'moderator' THEN c.slow_mode_s END AS slow_s,
               CASE WHEN c.direct_low IS NOT NULL THEN is_blocked(c.direct_low, c.direct_high) ELSE false END AS blocked,
               u.username, u.display_name, first.id AS first_id, first.seq AS first_seq, first.created_at AS first_at,
               CASE WHEN i.parent_id IS NOT NULL THEN (
                   SELECT coalesce(p.parent_message_id, p.id) FROM messages p
                    WHERE p.id = i.parent_id AND p.conversation_id = i.conversation_id AND p.deleted_at IS NULL)
               END AS root_id
          FROM unnest(p_conversation, p_sender, p_content, p_client_message_id, p_parent, p_message_type)
               WITH ORDINALITY AS i (conversation_id, sender_id, content, client_message_id, parent_id, message_type, ord)
          LEFT JOIN LATERAL (SELECT x.* FROM conversations x WHERE x.id = i.conversation_id LIMIT 1) c ON true
          LEFT JOIN LATERAL (SELECT x.* FROM conversation_members x
                              WHERE x.conversation_id = i.conversation_id AND x.user_id = i.sender_id LIMIT 1) m ON true
          LEFT JOIN LATERAL (SELECT x.* FROM users x WHERE x.id = i.sender_id LIMIT 1) u ON true
          LEFT JOIN LATERAL (SELECT x.id, x.seq, x.created_at FROM messages x
                              WHERE x.conversation_id = i.conversation_id AND x.sender_id = i.sender_id
                                AND x.client_message_id = i.client_message_id LIMIT 1) first ON true
    ), judged AS MATERIALIZED (
        SELECT f.*,
               -- Slow mode looks at the last few thousand messages, which bounds what it costs.
               CASE WHEN f.slow_s IS NOT NULL THEN (
                   SELECT max(x.created_at) + make_interval(secs => f.slow_s)
                     FROM (SELECT y.sender_id, y.created_at, y.message_type FROM messages y
                            WHERE y.conversation_id = f.conversation_id ORDER BY y.seq DESC LIMIT 5000) x
                    WHERE x.sender_id = f.sender_id AND x.message_type <> 'system') END AS slow_until,
               CASE
                   WHEN f.first_id IS NOT NULL THEN 'duplicate'
                   WHEN f.known_conversation IS NULL THEN 'not_found'
                   WHEN f.member IS NULL AND EXISTS (
                        SELECT FROM conversation_bans b
                         WHERE b.conversation_id = f.conversation_id AND b.user_id = f.sender_id) THEN 'banned'
                   WHEN f.member IS NULL THEN 'not_member'
                   WHEN f.archived_at IS NOT NULL OR f.role = 'read_only' THEN 'read_only'
                   WHEN f.muted_until > now() THEN 'muted'
                   WHEN f.blocked THEN 'blocked'
                   WHEN f.parent_id IS NOT NULL AND f.root_id IS NULL THEN 'parent_not_found'
                   ELSE 'committed'
               END AS verdict
          FROM found f
    ), accepted AS (
        -- Repeats within the batch count among what is acceptable: a refused first one stores nothing to repeat. In slow
        -- mode a member's first message of the batch is the only one.
        SELECT j.*, j.verdict = 'committed' AND coalesce(j.slow_until <= now(), true) AND row_number() OVER (
                   PARTITION BY j.conversation_id, j.sender_id, j.verdict,
                       CASE WHEN j.slow_s IS NULL THEN j.client_message_id END ORDER BY j.ord) = 1 AS is_new
          FROM judged j
    ), numbered AS MATERIALIZED (
        SELECT a.*,
               a.last_seq + count(*) FILTER (WHERE a.is_new) OVER (PARTITION BY a.conversation_id ORDER BY a.ord) AS new_seq,
               CASE WHEN a.is_new THEN nextval('message_ids') END AS new_id
          FROM accepted a
    ), counted AS (
        UPDATE conversations c SET last_seq = n.last_seq
          FROM (SELECT conversation_id, max(new_seq) AS last_seq FROM numbered WHERE is_new GROUP BY conversation_id) n
         WHERE c.id = n.conversation_id
    ), inserted AS (
        INSERT INTO messages (id, conversation_id, seq, sender_id, parent_message_id, message_type, content, client_message_id)
        SELECT n.new_id, n.conversation_id, n.new_seq, n.sender_id, n.root_id, n.message_type::message_type, n.content,
               n.client_message_id
          FROM numbered n WHERE n.is_new ORDER BY n.conversation_id, n.new_seq
    )
    SELECT n.ord,
           CASE WHEN n.verdict <> 'committed' OR n.is_new THEN n.verdict
                WHEN original.new_id IS NULL THEN 'slow_mode' ELSE 'duplicate' END,
           coalesce(n.new_id, n.first_id, original.new_id),
           coalesce(CASE WHEN n.is_new THEN n.new_seq END, n.first_seq, original.new_seq),
           coalesce(n.first_at, now()), n.root_id, n.username, n.display_name, NULL::bigint[],
           (extract(epoch FROM CASE
               WHEN n.muted_until > now() THEN least(n.muted_until - now(), interval '1 year')
               WHEN n.slow_s IS NOT NULL THEN greatest(n.slow_until - now(), interval '1 s') END) * 1000)::bigint
      FROM numbered n
      LEFT JOIN LATERAL (
          SELECT o.new_id, o.new_seq FROM numbered o
           WHERE n.verdict = 'committed' AND NOT n.is_new AND o.is_new AND o.conversation_id = n.conversation_id
             AND o.sender_id = n.sender_id AND o.client_message_id = n.client_message_id LIMIT 1) original ON true
     ORDER BY n.ord;
END $$;
