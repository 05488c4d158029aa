-- Who may do what to whom: roles, removal, mutes, bans, invitations, blocks, and the conversation's own settings.
--
-- docs/permissions.md has the whole matrix, and a test executes every cell of it.

ALTER TABLE conversations ADD CHECK (kind <> 'direct' OR (slow_mode_s = 0 AND member_limit IS NULL AND archived_at IS NULL));

CREATE TABLE conversation_invites (
    code            text        PRIMARY KEY DEFAULT translate(encode(uuid_send(gen_random_uuid()), 'base64'), '+/=', '-_'),
    -- A repeat of the mutation that made it finds it by this.
    mutation_id     bigint      NOT NULL UNIQUE,
    conversation_id bigint      NOT NULL REFERENCES conversations ON DELETE CASCADE,
    created_by      bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    max_uses        integer     CHECK (max_uses > 0),
    uses            integer     NOT NULL DEFAULT 0,
    expires_at      timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX conversation_invites_by_conversation ON conversation_invites (conversation_id, created_at);

CREATE TABLE user_blocks (
    user_id    bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    blocked_id bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, blocked_id),
    CHECK (user_id <> blocked_id)
);
CREATE INDEX user_blocks_by_blocked ON user_blocks (blocked_id);

ALTER TABLE conversation_invites ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE user_blocks ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT ON conversation_invites, conversation_bans, user_blocks TO chat_app;
GRANT SELECT, INSERT, DELETE ON conversation_invites, user_blocks TO chat_writer;
GRANT UPDATE (uses) ON conversation_invites TO chat_writer;
GRANT INSERT ON conversation_bans TO chat_writer;

-- Whether the reader moderates a conversation; SECURITY DEFINER for the same reason as app_conversations().
CREATE FUNCTION app_moderated() RETURNS SETOF bigint LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = public, pg_temp AS
    $$ SELECT conversation_id FROM conversation_members WHERE user_id = app_user_id() AND role >= 'moderator' $$;
REVOKE ALL ON FUNCTION app_moderated() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app_moderated() TO chat_app;
CREATE POLICY app_reads ON conversation_invites FOR SELECT TO chat_app USING (conversation_id IN (SELECT app_moderated()));
CREATE POLICY app_reads ON conversation_bans FOR SELECT TO chat_app USING (conversation_id IN (SELECT app_moderated()));
CREATE POLICY app_reads ON user_blocks FOR SELECT TO chat_app USING (user_id = app_user_id());
CREATE POLICY writer_invites ON conversation_invites TO chat_writer USING (true) WITH CHECK (EXISTS (
    SELECT FROM conversation_members m WHERE m.conversation_id = conversation_invites.conversation_id));
CREATE POLICY writer_blocks ON user_blocks TO chat_writer USING (true) WITH CHECK (true);

-- Whether one of the two wants nothing of the other.
CREATE FUNCTION is_blocked(p_one bigint, p_other bigint) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM user_blocks b WHERE b.user_id = p_one AND b.blocked_id = p_other)
        OR EXISTS (SELECT FROM user_blocks b WHERE b.user_id = p_other AND b.blocked_id = p_one)
$$;

-- The member who acts, of at least this role, in a conversation that has roles.
CREATE FUNCTION ruling_member(c conversations, p_actor bigint, p_least member_role) RETURNS conversation_members
LANGUAGE plpgsql AS $$
DECLARE
    m conversation_members := acting_member(c, p_actor);
BEGIN
    IF c.kind = 'direct' THEN
        PERFORM refuse('forbidden', 'a direct conversation has no roles; block the other user instead');
    ELSIF m.role < p_least THEN
        PERFORM refuse('forbidden', format('this is for the role %s and up; yours is %s', p_least, m.role));
    ELSIF c.archived_at IS NOT NULL AND m.role < 'owner' THEN
        PERFORM refuse('read_only', 'the conversation is archived; only its owner can open it again');
    END IF;
    RETURN m;
END $$;

-- The member who is acted upon: somebody else, of a lower role than the actor's.
CREATE FUNCTION ruled_member(c conversations, m conversation_members, p_user bigint) RETURNS conversation_members
LANGUAGE plpgsql AS $$
DECLARE
    t conversation_members;
BEGIN
    IF p_user = m.user_id THEN
        PERFORM refuse('forbidden', 'data.user_id: this cannot be done to oneself');
    END IF;
    SELECT * INTO t FROM conversation_members x WHERE x.conversation_id = c.id AND x.user_id = p_user;
    IF NOT FOUND THEN
        PERFORM refuse('not_found', 'data.user_id: this user is not a member of the conversation');
    ELSIF t.role >= m.role THEN
        PERFORM refuse('forbidden', 'data.user_id: this can be done to lower roles only');
    END IF;
    RETURN t;
END $$;

-- The conversation as the actor sees it once the mutation is done.
CREATE FUNCTION conversation_now(p_conversation bigint, p_actor bigint) RETURNS jsonb LANGUAGE sql STABLE AS
    $$ SELECT conversation_json(x, p_actor) FROM conversations x WHERE x.id = p_conversation $$;

CREATE FUNCTION mutate_remove_member(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := ruling_member(c, p_actor, 'moderator');
    v_user bigint := (p_arguments -> 'user_id')::bigint;
BEGIN
    o.conversation_id := c.id;
    PERFORM ruled_member(c, m, v_user);
    o.events := jsonb_build_array(remove_from(c, v_user, p_actor, p_mutation_id, 'removed'));
    o.lost := ARRAY[v_user];
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user,
                                   'seq', o.events -> 0 -> 'seq');
    RETURN o;
END $$;

-- What somebody was held to who has left: leaving and coming back lifts neither a mute nor a role that only reads.
CREATE TABLE conversation_restrictions (
    conversation_id bigint      NOT NULL REFERENCES conversations ON DELETE CASCADE,
    user_id         bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    role            member_role NOT NULL CHECK (role <= 'member'),
    muted_until     timestamptz,
    PRIMARY KEY (conversation_id, user_id)
);
ALTER TABLE conversation_restrictions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY writer_restricts ON conversation_restrictions TO chat_writer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, DELETE ON conversation_restrictions TO chat_writer;

CREATE FUNCTION remove_from(c conversations, p_user bigint, p_actor bigint, p_mutation_id bigint, p_reason text)
RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO conversation_restrictions (conversation_id, user_id, role, muted_until)
    SELECT x.conversation_id, x.user_id, least(x.role, 'member'), x.muted_until FROM conversation_members x
     WHERE x.conversation_id = c.id AND x.user_id = p_user AND (x.role = 'read_only' OR x.muted_until > now());
    DELETE FROM conversation_members x WHERE x.conversation_id = c.id AND x.user_id = p_user;
    DELETE FROM thread_followers x WHERE x.conversation_id = c.id AND x.user_id = p_user;
    RETURN append_event(c.id, 'member_left', p_actor, p_mutation_id, jsonb_build_object(
        'user', actor_json(p_user), 'reason', p_reason, 'actor', actor_json(p_actor)));
END $$;

CREATE OR REPLACE FUNCTION mutate_leave_conversation(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    v_heir bigint;
BEGIN
    o.conversation_id := c.id;
    PERFORM acting_member(c, p_actor);
    IF c.kind = 'direct' THEN
        PERFORM refuse('forbidden', 'a direct conversation cannot be left');
    END IF;
    o.events := jsonb_build_array(remove_from(c, p_actor, p_actor, p_mutation_id, 'left'));
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
    o.result := jsonb_build_object('conversation', conversation_now(c.id, p_actor), 'seq', o.events -> 0 -> 'seq');
    RETURN o;
END $$;

CREATE FUNCTION mutate_set_role(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := ruling_member(c, p_actor, 'admin');
    t conversation_members;
    v_user bigint := (p_arguments -> 'user_id')::bigint;
    v_role member_role := p_arguments ->> 'role';
BEGIN
    o.conversation_id := c.id;
    t := ruled_member(c, m, v_user);
    IF v_role >= m.role THEN
        PERFORM refuse('forbidden', 'data.role: only roles below one''s own can be given; transfer_ownership gives the owner''s');
    ELSIF t.role <> v_role THEN
        UPDATE conversation_members x SET role = v_role WHERE x.conversation_id = c.id AND x.user_id = v_user;
        o.events := jsonb_build_array(append_event(c.id, 'member_updated', p_actor, p_mutation_id,
            jsonb_build_object('user', actor_json(v_user), 'role', v_role, 'actor', actor_json(p_actor))));
    END IF;
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user, 'role', v_role,
                                   'seq', coalesce(o.events -> 0 -> 'seq', to_jsonb(c.last_seq)));
    RETURN o;
END $$;

CREATE FUNCTION mutate_transfer_ownership(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members;
    v_user bigint := (p_arguments -> 'user_id')::bigint;
BEGIN
    o.conversation_id := c.id;
    m := ruling_member(c, p_actor, 'owner');
    PERFORM ruled_member(c, m, v_user);
    -- Nobody could lift the mute of an owner.
    UPDATE conversation_members x SET role = CASE WHEN x.user_id = v_user THEN 'owner' ELSE 'admin' END::member_role,
           muted_until = NULL
     WHERE x.conversation_id = c.id AND x.user_id IN (p_actor, v_user);
    UPDATE conversations x SET owner_id = v_user WHERE x.id = c.id;
    o.events := jsonb_build_array(
        append_event(c.id, 'member_updated', p_actor, p_mutation_id, jsonb_build_object(
            'user', actor_json(v_user), 'role', 'owner', 'muted_until', NULL, 'actor', actor_json(p_actor))),
        append_event(c.id, 'member_updated', p_actor, p_mutation_id, jsonb_build_object(
            'user', actor_json(p_actor), 'role', 'admin', 'muted_until', NULL, 'actor', actor_json(p_actor))),
        append_event(c.id, 'conversation_updated', p_actor, p_mutation_id, jsonb_build_object(
            'owner_id', v_user, 'actor', actor_json(p_actor))));
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'owner_id', v_user,
                                   'seq', o.events -> -1 -> 'seq');
    RETURN o;
END $$;

CREATE FUNCTION mutate_mute_member(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := ruling_member(c, p_actor, 'moderator');
    v_user  bigint := (p_arguments -> 'user_id')::bigint;
    v_for_s bigint := (p_arguments ->> 'duration_s')::bigint;
    -- "Until lifted" is far enough away, and a time as any other for everybody who compares.
    v_until timestamptz := CASE WHEN v_for_s IS NULL THEN '9999-12-31T00:00:00Z'::timestamptz
                                WHEN v_for_s > 0 THEN date_trunc('milliseconds', now() + make_interval(secs => v_for_s)) END;
BEGIN
    o.conversation_id := c.id;
    PERFORM ruled_member(c, m, v_user);
    UPDATE conversation_members x SET muted_until = v_until WHERE x.conversation_id = c.id AND x.user_id = v_user;
    o.events := jsonb_build_array(append_event(c.id, 'member_updated', p_actor, p_mutation_id, jsonb_build_object(
        'user', actor_json(v_user), 'muted_until', rfc3339(v_until), 'actor', actor_json(p_actor))));
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user,
        'muted_until', o.events -> 0 -> 'payload' -> 'muted_until', 'seq', o.events -> 0 -> 'seq');
    RETURN o;
END $$;

CREATE FUNCTION mutate_ban_member(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
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
        o.events := jsonb_build_array(remove_from(c, v_user, p_actor, p_mutation_id, 'banned'));
    ELSIF NOT EXISTS (SELECT FROM conversation_bans b WHERE b.conversation_id = c.id AND b.user_id = v_user) THEN
        o.events := jsonb_build_array(append_event(c.id, 'member_updated', p_actor, p_mutation_id, jsonb_build_object(
            'user', actor_json(v_user), 'banned', true, 'actor', actor_json(p_actor))));
    END IF;
    INSERT INTO conversation_bans (conversation_id, user_id, banned_by, reason)
    VALUES (c.id, v_user, p_actor, p_arguments ->> 'reason') ON CONFLICT DO NOTHING;
    o.lost := ARRAY[v_user];
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user,
                                   'seq', coalesce(o.events -> 0 -> 'seq', to_jsonb(c.last_seq)));
    RETURN o;
END $$;

CREATE FUNCTION mutate_unban_member(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := ruling_member(c, p_actor, 'moderator');
    v_user bigint := (p_arguments -> 'user_id')::bigint;
BEGIN
    o.conversation_id := c.id;
    DELETE FROM conversation_bans b WHERE b.conversation_id = c.id AND b.user_id = v_user;
    IF FOUND THEN
        o.events := jsonb_build_array(append_event(c.id, 'member_updated', p_actor, p_mutation_id, jsonb_build_object(
            'user', actor_json(v_user), 'banned', false, 'actor', actor_json(p_actor))));
    END IF;
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user,
                                   'seq', coalesce(o.events -> 0 -> 'seq', to_jsonb(c.last_seq)));
    RETURN o;
END $$;

CREATE FUNCTION mutate_update_conversation(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    v_changed jsonb := '{}';
    v_limit   integer := nullif((p_arguments ->> 'member_limit')::integer, 0);
BEGIN
    -- In a group everybody who may speak may rename it.
    IF c.kind = 'group' AND NOT p_arguments ?| '{slow_mode_s,member_limit}' THEN
        PERFORM speaking_member(c, p_actor);
    ELSE
        PERFORM ruling_member(c, p_actor, 'admin');
    END IF;
    o.conversation_id := c.id;
    IF c.archived_at IS NOT NULL THEN
        PERFORM refuse('read_only', 'the conversation is archived; nothing in it can be changed');
    ELSIF v_limit < (SELECT s.member_count FROM conversation_statistics s WHERE s.conversation_id = c.id) THEN
        PERFORM refuse('conflict', 'data.member_limit: there are more members than that already');
    END IF;
    IF p_arguments ? 'name' AND p_arguments ->> 'name' IS DISTINCT FROM c.name THEN
        v_changed := v_changed || jsonb_build_object('name', p_arguments -> 'name');
    END IF;
    IF p_arguments ? 'description' AND p_arguments ->> 'description' IS DISTINCT FROM c.description THEN
        v_changed := v_changed || jsonb_build_object('description', p_arguments -> 'description');
    END IF;
    IF p_arguments ? 'slow_mode_s' AND (p_arguments ->> 'slow_mode_s')::integer <> c.slow_mode_s THEN
        v_changed := v_changed || jsonb_build_object('slow_mode_s', p_arguments -> 'slow_mode_s');
    END IF;
    IF p_arguments ? 'member_limit' AND v_limit IS DISTINCT FROM c.member_limit THEN
        v_changed := v_changed || jsonb_build_object('member_limit', v_limit);
    END IF;
    IF v_changed <> '{}' THEN
        UPDATE conversations x SET
               name = CASE WHEN v_changed ? 'name' THEN v_changed ->> 'name' ELSE x.name END,
               description = CASE WHEN v_changed ? 'description' THEN v_changed ->> 'description' ELSE x.description END,
               slow_mode_s = coalesce((v_changed ->> 'slow_mode_s')::integer, x.slow_mode_s),
               member_limit = CASE WHEN v_changed ? 'member_limit' THEN v_limit ELSE x.member_limit END
         WHERE x.id = c.id;
        o.events := jsonb_build_array(append_event(c.id, 'conversation_updated', p_actor, p_mutation_id,
            v_changed || jsonb_build_object('actor', actor_json(p_actor))));
    END IF;
    o.result := jsonb_build_object('conversation', conversation_now(c.id, p_actor),
                                   'seq', coalesce(o.events -> 0 -> 'seq', to_jsonb(c.last_seq)));
    RETURN o;
END $$;

CREATE FUNCTION mutate_archive_conversation(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := ruling_member(c, p_actor, 'owner');
    v_archived boolean := (p_arguments -> 'archived')::boolean;
BEGIN
    o.conversation_id := c.id;
    IF v_archived <> (c.archived_at IS NOT NULL) THEN
        UPDATE conversations x SET archived_at = CASE WHEN v_archived THEN now() END WHERE x.id = c.id;
        o.events := jsonb_build_array(append_event(c.id, 'conversation_updated', p_actor, p_mutation_id,
            jsonb_build_object('archived', v_archived, 'actor', actor_json(p_actor))));
    END IF;
    o.result := jsonb_build_object('conversation', conversation_now(c.id, p_actor),
                                   'seq', coalesce(o.events -> 0 -> 'seq', to_jsonb(c.last_seq)));
    RETURN o;
END $$;

CREATE FUNCTION invite_json(i conversation_invites) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('code', i.code, 'conversation_id', conversation_text_id(i.conversation_id),
        'max_uses', i.max_uses, 'uses', i.uses, 'expires_at', rfc3339(i.expires_at), 'created_by', i.created_by,
        'created_at', rfc3339(i.created_at))
$$;

CREATE FUNCTION mutate_create_invite(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := ruling_member(c, p_actor, 'moderator');
    i conversation_invites;
BEGIN
    o.conversation_id := c.id;
    IF c.archived_at IS NOT NULL THEN
        PERFORM refuse('read_only', 'the conversation is archived; nobody can join it');
    END IF;
    DELETE FROM conversation_invites x WHERE x.conversation_id = c.id AND (x.expires_at <= now() OR x.uses >= x.max_uses);
    IF (SELECT count(*) FROM conversation_invites x WHERE x.conversation_id = c.id) >= 100 THEN
        PERFORM refuse('conflict', 'a conversation can have 100 invitations; revoke one first');
    END IF;
    INSERT INTO conversation_invites (mutation_id, conversation_id, created_by, max_uses, expires_at)
    VALUES (p_mutation_id, c.id, p_actor, (p_arguments ->> 'max_uses')::integer,
            date_trunc('milliseconds', now() + make_interval(secs => (p_arguments ->> 'expires_in_s')::bigint)))
    ON CONFLICT DO NOTHING;
    SELECT * INTO STRICT i FROM conversation_invites x WHERE x.mutation_id = p_mutation_id;
    o.result := jsonb_build_object('invite', invite_json(i));
    RETURN o;
END $$;

CREATE FUNCTION mutate_revoke_invite(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := ruling_member(c, p_actor, 'moderator');
BEGIN
    o.conversation_id := c.id;
    DELETE FROM conversation_invites x WHERE x.conversation_id = c.id AND x.code = p_arguments ->> 'code';
    o.result := jsonb_build_object('code', p_arguments -> 'code');
    RETURN o;
END $$;

CREATE FUNCTION mutate_join_by_invite(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
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
        o.events := jsonb_build_array(add_member(c, p_actor, i.created_by, p_mutation_id));
        UPDATE conversation_invites x SET uses = x.uses + 1 WHERE x.code = i.code;
        o.gained := ARRAY[p_actor];
        v_seq := o.events -> 0 -> 'seq';
    END IF;
    o.result := jsonb_build_object('conversation', conversation_now(c.id, p_actor), 'seq', v_seq);
    RETURN o;
END $$;

-- Blocks are between two users and in no conversation's log.
CREATE FUNCTION mutate_block_user(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    v_user bigint := (p_arguments -> 'user_id')::bigint;
BEGIN
    IF v_user = p_actor THEN
        PERFORM refuse('bad_request', 'data.user_id: nobody can block themselves');
    ELSIF NOT EXISTS (SELECT FROM users u WHERE u.id = v_user) THEN
        PERFORM refuse('not_found', 'data.user_id: no such user');
    ELSIF (SELECT count(*) FROM user_blocks b WHERE b.user_id = p_actor) >= 1000 THEN
        PERFORM refuse('conflict', 'at most 1000 users can be blocked; unblock one first');
    END IF;
    INSERT INTO user_blocks (user_id, blocked_id) VALUES (p_actor, v_user) ON CONFLICT DO NOTHING;
    o.result := jsonb_build_object('user_id', v_user, 'blocked', true);
    RETURN o;
END $$;

CREATE FUNCTION mutate_unblock_user(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
BEGIN
    DELETE FROM user_blocks b WHERE b.user_id = p_actor AND b.blocked_id = (p_arguments -> 'user_id')::bigint;
    o.result := jsonb_build_object('user_id', p_arguments -> 'user_id', 'blocked', false);
    RETURN o;
END $$;

-- Joining, by whatever way: not those who are banned, not past the limit, not what is archived.
CREATE OR REPLACE FUNCTION add_member(c conversations, p_user bigint, p_actor bigint, p_mutation_id bigint)
RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    u users;
    r conversation_restrictions;
BEGIN
    SELECT * INTO u FROM users x WHERE x.id = p_user AND x.is_active;
    IF NOT FOUND THEN
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
    -- The marker starts at the present: what was said before somebody joined is history, not unread.
    DELETE FROM conversation_restrictions x WHERE x.conversation_id = c.id AND x.user_id = p_user RETURNING * INTO r;
    INSERT INTO conversation_members (conversation_id, user_id, joined_seq, read_seq, role, muted_until)
    VALUES (c.id, p_user, c.last_seq + 1, c.last_seq + 1, coalesce(r.role, 'member'), r.muted_until);
    RETURN append_event(c.id, 'member_joined', p_actor, p_mutation_id, jsonb_build_object(
        'user', user_json(u), 'role', coalesce(r.role, 'member'), 'muted_until', rfc3339(r.muted_until),
        'invited_by', CASE WHEN p_actor <> p_user THEN actor_json(p_actor) END));
END $$;

CREATE OR REPLACE FUNCTION conversation_json(c conversations, p_user bigint) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'id', conversation_text_id(c.id), 'kind', c.kind,
        'name', coalesce(c.name, (
            SELECT u.display_name FROM users u
             WHERE c.kind = 'direct' AND u.id = CASE WHEN c.direct_low = p_user THEN c.direct_high ELSE c.direct_low END)),
        'description', c.description, 'owner_id', c.owner_id, 'role', m.role, 'last_seq', c.last_seq,
        'read_seq', coalesce(m.read_seq, 0),
        'unread_count', unread_messages(c.id, p_user, m.read_seq),
        'mention_count', (SELECT count(*) FROM message_mentions x JOIN messages y ON y.id = x.message_id
                           WHERE x.conversation_id = c.id AND x.user_id = p_user AND x.seq > m.read_seq
                             AND y.sender_id <> p_user),
        'member_count', coalesce(s.member_count, 0), 'last_message_at', rfc3339(s.last_message_at),
        'created_at', rfc3339(c.created_at), 'archived', c.archived_at IS NOT NULL,
        'slow_mode_s', c.slow_mode_s, 'member_limit', c.member_limit)
      FROM (SELECT) AS one
      LEFT JOIN conversation_members m ON m.conversation_id = c.id AND m.user_id = p_user
      LEFT JOIN conversation_statistics s ON s.conversation_id = c.id
$$;

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
        o.events := jsonb_build_array(add_member(c, v_user, p_actor, p_mutation_id));
        v_seq := o.events -> 0 -> 'seq';
        o.gained := ARRAY[v_user];
    END IF;
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user, 'seq', v_seq);
    RETURN o;
END $$;

-- Nobody is put into a conversation by somebody whom they have blocked, or have been blocked by.
CREATE FUNCTION refuse_blocked_members() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_blocked bigint;
BEGIN
    SELECT n.user_id INTO v_blocked FROM new_members n JOIN conversations c ON c.id = n.conversation_id
     WHERE n.joined_seq = 1 AND n.user_id <> c.owner_id AND is_blocked(n.user_id, c.owner_id) LIMIT 1;
    IF FOUND THEN
        PERFORM refuse('blocked', format('data.member_ids: one of you has blocked the other: %s', v_blocked));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER refuse_blocked_members AFTER INSERT ON conversation_members
    REFERENCING NEW TABLE AS new_members FOR EACH STATEMENT EXECUTE FUNCTION refuse_blocked_members();
