-- Asking to be let into a private room. A request is between the one who asks and those who moderate: it is in no log, and
-- it is gone once it is decided, withdrawn, or whoever asked has come in another way or was banned.

CREATE TABLE conversation_join_requests (
    conversation_id bigint      NOT NULL REFERENCES conversations ON DELETE CASCADE,
    user_id         bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    text            text        CHECK (char_length(text) <= 500),
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, user_id)
);
CREATE INDEX conversation_join_requests_by_user ON conversation_join_requests (user_id, conversation_id);
ALTER TABLE conversation_join_requests ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY app_reads ON conversation_join_requests FOR SELECT TO chat_app
    USING (user_id = app_user_id() OR conversation_id IN (SELECT app_moderated()));
CREATE POLICY writer_asks ON conversation_join_requests TO chat_writer USING (true) WITH CHECK (NOT EXISTS (
    SELECT FROM conversation_members m
     WHERE m.conversation_id = conversation_join_requests.conversation_id AND m.user_id = conversation_join_requests.user_id));
GRANT SELECT ON conversation_join_requests TO chat_app;
GRANT SELECT, INSERT, DELETE, UPDATE (text) ON conversation_join_requests TO chat_writer;

-- Who asks does not make the room read through all of its members, however many they are.
CREATE INDEX conversation_members_moderating ON conversation_members (conversation_id, role) WHERE role >= 'moderator';

-- For those who moderate, the highest roles first, and whom else it concerns.
CREATE FUNCTION request_notice(p_conversation bigint, p_also bigint[], p_kind text, p_payload jsonb) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_array(jsonb_build_object('kind', p_kind, 'payload', p_payload, 'users', p_also || array(
        SELECT m.user_id FROM conversation_members m
         WHERE m.conversation_id = p_conversation AND m.role >= 'moderator' AND m.user_id <> ALL (p_also)
           AND NOT is_blocked(m.user_id, (p_payload -> 'user' -> 'id')::bigint)
         ORDER BY m.role DESC, m.user_id LIMIT 100)))
$$;

-- Ends a request, if there is one, and says so.
CREATE FUNCTION close_request(c conversations, p_user bigint, p_actor bigint, p_outcome text) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM conversation_join_requests x WHERE x.conversation_id = c.id AND x.user_id = p_user;
    RETURN CASE WHEN FOUND THEN request_notice(c.id, ARRAY[p_user], 'join_request_decided', jsonb_build_object(
        'user', actor_json(p_user), 'outcome', p_outcome, 'actor', actor_json(p_actor))) END;
END $$;

CREATE FUNCTION mutate_request_to_join(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    r conversation_join_requests;
BEGIN
    o.conversation_id := c.id;
    IF EXISTS (SELECT FROM conversation_members m WHERE m.conversation_id = c.id AND m.user_id = p_actor) THEN
        PERFORM refuse('conflict', 'you are a member of this conversation already');
    ELSIF EXISTS (SELECT FROM conversation_bans b WHERE b.conversation_id = c.id AND b.user_id = p_actor) THEN
        PERFORM refuse('banned', 'you are banned from this conversation; a moderator can lift it');
    ELSIF c.kind = 'public_room' THEN
        PERFORM refuse('conflict', 'this room is public: join it (join_conversation)');
    ELSIF c.kind <> 'private_room' THEN
        PERFORM refuse('forbidden', 'only private rooms can be asked for; ask a member for an invitation');
    ELSIF c.archived_at IS NOT NULL THEN
        PERFORM refuse('read_only', 'the conversation is archived; nobody can join it');
    END IF;
    SELECT * INTO r FROM conversation_join_requests x WHERE x.conversation_id = c.id AND x.user_id = p_actor;
    IF NOT FOUND THEN
        IF (SELECT count(*) FROM conversation_join_requests x WHERE x.conversation_id = c.id) >= 200 THEN
            PERFORM refuse('conflict', 'this room has 200 open requests; its moderators must decide on some first');
        ELSIF (SELECT count(*) FROM conversation_join_requests x WHERE x.user_id = p_actor) >= 100 THEN
            PERFORM refuse('conflict', 'you have 100 open requests; withdraw one first (cancel_join_request)');
        END IF;
    END IF;
    IF r.user_id IS NULL OR r.text IS DISTINCT FROM p_arguments ->> 'text' THEN
        INSERT INTO conversation_join_requests (conversation_id, user_id, text) VALUES (c.id, p_actor, p_arguments ->> 'text')
        ON CONFLICT (conversation_id, user_id) DO UPDATE SET text = excluded.text
        RETURNING * INTO r;
        o.notices := request_notice(c.id, '{}', 'join_requested', jsonb_build_object(
            'user', actor_json(p_actor), 'text', r.text, 'created_at', rfc3339(r.created_at)));
    END IF;
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'requested', true);
    RETURN o;
END $$;

CREATE FUNCTION mutate_cancel_join_request(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
BEGIN
    o.conversation_id := c.id;
    o.notices := close_request(c, p_actor, p_actor, 'cancelled');
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'requested', false);
    RETURN o;
END $$;

CREATE FUNCTION mutate_decide_join_request(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := ruling_member(c, p_actor, 'moderator');
    v_user     bigint := (p_arguments -> 'user_id')::bigint;
    v_accepted boolean := (p_arguments -> 'accepted')::boolean;
BEGIN
    o.conversation_id := c.id;
    o.notices := close_request(c, v_user, p_actor, CASE WHEN v_accepted THEN 'accepted' ELSE 'declined' END);
    IF o.notices IS NOT NULL THEN
        IF v_accepted THEN
            o.events := add_member(c, v_user, p_actor, p_mutation_id);
            o.gained := ARRAY[v_user];
        END IF;
    ELSIF NOT EXISTS (SELECT FROM users u WHERE u.id = v_user) THEN
        PERFORM refuse('not_found', 'data.user_id: no such user');
    ELSIF v_accepted AND NOT EXISTS (
            SELECT FROM conversation_members x WHERE x.conversation_id = c.id AND x.user_id = v_user) THEN
        PERFORM refuse('not_found', 'data.user_id: this user does not ask to join (any more)');
    END IF;
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user, 'accepted', v_accepted,
                                   'seq', coalesce(o.events -> 0 -> 'seq', to_jsonb(c.last_seq)));
    RETURN o;
END $$;

-- Of a room, for those who moderate it; without a room the reader's own.
CREATE FUNCTION read_list_join_requests(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_conversation bigint := CASE WHEN p_arguments ->> 'conversation' IS NOT NULL THEN require_moderator(p_arguments) END;
BEGIN
    RETURN jsonb_build_object('requests', (
        SELECT coalesce(jsonb_agg(jsonb_build_object('conversation_id', conversation_text_id(r.conversation_id),
                   'user', actor_json(r.user_id), 'text', r.text, 'created_at', rfc3339(r.created_at))
                   ORDER BY r.created_at, r.user_id), '[]')
          FROM conversation_join_requests r
         WHERE (v_conversation IS NULL AND r.user_id = app_user_id()) OR r.conversation_id = v_conversation));
END $$;
