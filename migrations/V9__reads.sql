-- What people look up beside the history: each is read_<name>(arguments), run as chat_app under the reader's row level
-- security, and returns the ack's data. A new one is a function here and a row in the table of wire/command/lookups.rs.

GRANT SELECT ON conversation_statistics TO chat_app;

-- Reactions of a message, the oldest emoji first.
CREATE FUNCTION message_reactions_json(p_message bigint) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object('emoji', r.emoji, 'count', r.n, 'me', r.mine) ORDER BY r.first_at, r.emoji), '[]')
      FROM (SELECT x.emoji, count(*) AS n, bool_or(x.user_id = app_user_id()) AS mine, min(x.created_at) AS first_at
              FROM message_reactions x WHERE x.message_id = p_message GROUP BY x.emoji) r
$$;

-- A message as the wire contract has it: the same fields as the rows of the history, which the server puts together itself.
CREATE FUNCTION message_json(m messages) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'message_id', m.id, 'conversation_id', conversation_text_id(m.conversation_id), 'seq', m.seq, 'sender', user_json(u),
        'content', CASE WHEN m.deleted_at IS NULL THEN m.content ELSE '' END, 'message_type', m.message_type,
        'parent_message_id', m.parent_message_id,
        'mentions', (SELECT coalesce(jsonb_agg(x.user_id ORDER BY x.user_id), '[]') FROM message_mentions x
                      WHERE x.message_id = m.id),
        'reactions', message_reactions_json(m.id),
        'pinned', EXISTS (SELECT FROM message_pins p WHERE p.conversation_id = m.conversation_id AND p.message_id = m.id),
        'edited_at', rfc3339(m.edited_at), 'deleted', m.deleted_at IS NOT NULL, 'attachments', '[]'::jsonb,
        'created_at', rfc3339(m.created_at))
        || CASE WHEN t.reply_count IS NOT NULL THEN jsonb_build_object('thread',
               jsonb_build_object('reply_count', t.reply_count, 'last_reply_at', rfc3339(t.last_reply_at))) ELSE '{}' END
        || CASE WHEN m.sender_id = app_user_id() AND NOT starts_with(m.client_message_id, E'\x01')
                THEN jsonb_build_object('client_message_id', m.client_message_id) ELSE '{}' END
      FROM users u LEFT JOIN thread_statistics t ON t.root_message_id = m.id
     WHERE u.id = m.sender_id
$$;

-- The message, for somebody who may see it.
CREATE FUNCTION readable_message(p_arguments jsonb) RETURNS messages LANGUAGE plpgsql STABLE AS $$
DECLARE
    m messages;
BEGIN
    SELECT * INTO m FROM messages x WHERE x.id = (p_arguments -> 'message_id')::bigint
       AND (p_arguments ->> 'conversation' IS NULL OR x.conversation_id = (p_arguments -> 'conversation')::bigint);
    IF NOT FOUND THEN
        PERFORM refuse('not_found', 'data.message_id: there is no such message, or not for you');
    END IF;
    RETURN m;
END $$;

-- Refuses whoever is not a member of the conversation.
CREATE FUNCTION require_access(p_arguments jsonb) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_conversation bigint := (p_arguments -> 'conversation')::bigint;
BEGIN
    CASE app_access(v_conversation)
        WHEN 'member' THEN RETURN v_conversation;
        WHEN 'not_member' THEN PERFORM refuse('not_member', 'you are not a member of this conversation; join it first');
        ELSE PERFORM refuse('not_found', 'data.conversation_id: no such conversation');
    END CASE;
    RETURN NULL;
END $$;

CREATE FUNCTION require_moderator(p_arguments jsonb) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_conversation bigint := require_access(p_arguments);
BEGIN
    IF v_conversation NOT IN (SELECT app_moderated()) THEN
        PERFORM refuse('forbidden', 'this is for moderators and up');
    END IF;
    RETURN v_conversation;
END $$;

-- Rows [{key, value}] as a page: one more than asked for tells that there are more, the last key says where to go on.
CREATE FUNCTION page_json(p_name text, p_rows jsonb, p_limit bigint) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object(p_name, coalesce(jsonb_agg(r.value -> 'value' ORDER BY r.n) FILTER (WHERE r.n <= p_limit), '[]'))
        || CASE WHEN count(*) > p_limit
                THEN jsonb_build_object('next_cursor', (jsonb_agg(r.value -> 'key' ORDER BY r.n)) -> (p_limit::integer - 1))
                ELSE '{}' END
      FROM jsonb_array_elements(coalesce(p_rows, '[]')) WITH ORDINALITY AS r (value, n)
$$;

CREATE FUNCTION read_list_edits(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    m messages := readable_message(p_arguments);
BEGIN
    RETURN jsonb_build_object('edits', (
        SELECT coalesce(jsonb_agg(jsonb_build_object('content', e.content, 'created_at', rfc3339(e.written_at)) ORDER BY e.number), '[]')
          FROM message_edits e WHERE e.message_id = m.id));
END $$;

CREATE FUNCTION read_list_pins(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_conversation bigint := require_access(p_arguments);
BEGIN
    RETURN jsonb_build_object('messages', (
        SELECT coalesce(jsonb_agg(message_json(m) || jsonb_build_object('pinned_at', rfc3339(p.pinned_at), 'pinned_by', p.pinned_by)
                                  ORDER BY p.seq DESC), '[]')
          FROM message_pins p JOIN messages m ON m.id = p.message_id AND m.conversation_id = p.conversation_id
         WHERE p.conversation_id = v_conversation));
END $$;

CREATE FUNCTION read_list_reactions(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    m messages := readable_message(p_arguments);
BEGIN
    RETURN jsonb_build_object('reactions', (
        SELECT coalesce(jsonb_agg(jsonb_build_object('emoji', r.emoji, 'user', actor_json(r.user_id),
                                                     'created_at', rfc3339(r.created_at)) ORDER BY r.created_at, r.user_id), '[]')
          FROM (SELECT x.* FROM message_reactions x
                 WHERE x.message_id = m.id AND (p_arguments ->> 'emoji' IS NULL OR x.emoji = p_arguments ->> 'emoji')
                 ORDER BY x.created_at, x.user_id LIMIT (p_arguments -> 'limit')::bigint) r));
END $$;

CREATE FUNCTION read_get_thread(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    m messages := readable_message(p_arguments);
    v_limit  bigint := (p_arguments -> 'limit')::bigint;
    v_before bigint := (p_arguments ->> 'before_seq')::bigint;
    v_after  bigint := (p_arguments ->> 'after_seq')::bigint;
    v_rows   jsonb;
BEGIN
    IF m.parent_message_id IS NOT NULL THEN
        SELECT * INTO STRICT m FROM messages x WHERE x.id = m.parent_message_id;
    END IF;
    -- From the beginning, unless the end before some place is asked for.
    IF v_before IS NULL THEN
        SELECT jsonb_agg(message_json(r) ORDER BY r.seq) INTO v_rows
          FROM (SELECT x.* FROM messages x WHERE x.parent_message_id = m.id AND x.seq > coalesce(v_after, 0)
                 ORDER BY x.seq LIMIT v_limit + 1) r;
        RETURN jsonb_build_object('root', message_json(m), 'messages',
                (SELECT coalesce(jsonb_agg(e.value ORDER BY e.n), '[]')
                   FROM jsonb_array_elements(coalesce(v_rows, '[]')) WITH ORDINALITY e (value, n) WHERE e.n <= v_limit),
            'has_more', coalesce(jsonb_array_length(v_rows) > v_limit, false), 'following', follows_thread(m.id));
    END IF;
    SELECT jsonb_agg(message_json(r) ORDER BY r.seq DESC) INTO v_rows
      FROM (SELECT x.* FROM messages x WHERE x.parent_message_id = m.id AND x.seq < v_before
             ORDER BY x.seq DESC LIMIT v_limit + 1) r;
    RETURN jsonb_build_object('root', message_json(m), 'messages',
            (SELECT coalesce(jsonb_agg(e.value ORDER BY e.n DESC), '[]')
               FROM jsonb_array_elements(coalesce(v_rows, '[]')) WITH ORDINALITY e (value, n) WHERE e.n <= v_limit),
        'has_more', coalesce(jsonb_array_length(v_rows) > v_limit, false), 'following', follows_thread(m.id));
END $$;

CREATE FUNCTION follows_thread(p_root bigint) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM thread_followers f WHERE f.root_message_id = p_root AND f.user_id = app_user_id())
$$;

CREATE FUNCTION read_list_mentions(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_limit bigint := (p_arguments -> 'limit')::bigint;
BEGIN
    IF p_arguments ->> 'conversation' IS NOT NULL THEN
        PERFORM require_access(p_arguments);
    END IF;
    RETURN page_json('messages', (
        SELECT jsonb_agg(jsonb_build_object('key', m.id, 'value', message_json(m)) ORDER BY m.id DESC)
          FROM (SELECT y.* FROM message_mentions x JOIN messages y ON y.id = x.message_id
                 WHERE x.user_id = app_user_id() AND y.deleted_at IS NULL
                   AND (p_arguments ->> 'conversation' IS NULL OR x.conversation_id = (p_arguments -> 'conversation')::bigint)
                   AND x.message_id < coalesce((p_arguments ->> 'cursor')::bigint, 9007199254740991)
                 ORDER BY x.message_id DESC LIMIT v_limit + 1) m), v_limit);
END $$;
DROP INDEX message_mentions_by_user;
CREATE INDEX message_mentions_by_user ON message_mentions (user_id, message_id);
CREATE INDEX message_mentions_by_place ON message_mentions (user_id, conversation_id, seq);

CREATE FUNCTION read_list_bans(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_conversation bigint := require_moderator(p_arguments);
BEGIN
    RETURN jsonb_build_object('bans', (
        SELECT coalesce(jsonb_agg(jsonb_build_object('user', actor_json(b.user_id), 'banned_by', b.banned_by,
                   'reason', b.reason, 'created_at', rfc3339(b.created_at)) ORDER BY b.created_at DESC, b.user_id), '[]')
          FROM (SELECT x.* FROM conversation_bans x WHERE x.conversation_id = v_conversation
                 ORDER BY x.created_at DESC LIMIT 1000) b));
END $$;

CREATE FUNCTION read_list_invites(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_conversation bigint := require_moderator(p_arguments);
BEGIN
    RETURN jsonb_build_object('invites', (
        SELECT coalesce(jsonb_agg(invite_json(i) ORDER BY i.created_at DESC, i.code), '[]')
          FROM conversation_invites i WHERE i.conversation_id = v_conversation));
END $$;

CREATE FUNCTION read_list_blocks(p_arguments jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('users', coalesce(jsonb_agg(user_json(u) ORDER BY b.created_at DESC, u.id), '[]'))
      FROM user_blocks b JOIN users u ON u.id = b.blocked_id WHERE b.user_id = app_user_id()
$$;

CREATE FUNCTION read_list_public_rooms(p_arguments jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT page_json('conversations', (
        SELECT jsonb_agg(jsonb_build_object('key', c.id, 'value', conversation_json(c, app_user_id())) ORDER BY c.id)
          FROM (SELECT x.* FROM conversations x
                 WHERE x.kind = 'public_room' AND x.archived_at IS NULL AND x.id > coalesce((p_arguments ->> 'cursor')::bigint, 0)
                   AND (p_arguments ->> 'query' IS NULL OR strpos(lower(x.name), lower(p_arguments ->> 'query')) > 0)
                 ORDER BY x.id LIMIT (p_arguments -> 'limit')::bigint + 1) c), (p_arguments -> 'limit')::bigint)
$$;

-- Whom of these the reader may know to be there: who shares a conversation with them, neither having blocked the other.
CREATE FUNCTION app_may_see(p_user bigint) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = public, pg_temp AS $$ SELECT NOT is_blocked(app_user_id(), p_user) $$;
CREATE POLICY owner_resolves_blocks ON user_blocks FOR SELECT TO chat_owner USING (true);
REVOKE ALL ON FUNCTION app_may_see(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app_may_see(bigint) TO chat_app;
CREATE FUNCTION read_get_presence(p_arguments jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('user_ids', coalesce(jsonb_agg(w.user_id ORDER BY w.n), '[]'))
      FROM (SELECT value::bigint AS user_id, min(n) AS n
              FROM jsonb_array_elements_text(p_arguments -> 'user_ids') WITH ORDINALITY AS given (value, n) GROUP BY value::bigint) w
     WHERE w.user_id = app_user_id()
        OR (EXISTS (SELECT FROM conversation_members m
                     WHERE m.user_id = w.user_id AND m.conversation_id IN (SELECT app_conversations()))
            AND app_may_see(w.user_id))
$$;

-- Where a message, or an invitation, belongs: the owner of its conversation must be asked. An invitation's code is all
-- that its bearer needs to know, hence SECURITY DEFINER for that one.
CREATE FUNCTION conversation_of_message(p_message bigint) RETURNS bigint LANGUAGE sql STABLE AS
    $$ SELECT conversation_id FROM messages WHERE id = p_message $$;
CREATE FUNCTION conversation_of_invite(p_code text) RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = public, pg_temp AS
    $$ SELECT conversation_id FROM conversation_invites WHERE code = p_code $$;
CREATE POLICY owner_resolves_invites ON conversation_invites FOR SELECT TO chat_owner USING (true);
REVOKE ALL ON FUNCTION conversation_of_invite(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION conversation_of_invite(text) TO chat_app;

-- The one door to all of the above.
CREATE FUNCTION look_up(p_name text, p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_answer jsonb;
BEGIN
    EXECUTE format('SELECT %I($1)', 'read_' || p_name) INTO v_answer USING p_arguments;
    RETURN v_answer;
END $$;
