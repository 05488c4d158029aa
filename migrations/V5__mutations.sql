-- The one pipeline of mutations.
--
-- commit_messages   one statement for a run of messages.
-- apply_mutations   one statement for a run of anything else; dispatches to mutate_<kind>, one function per kind.
-- Both take the conversations' row locks first, in id order, and look at everything else only afterwards: each
-- statement inside a VOLATILE function has a fresh snapshot, so membership, mutes, bans and earlier sends are read as
-- they are once nobody else can change the conversation. Both are safe to submit again with the same keys.

CREATE FUNCTION rfc3339(t timestamptz) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS
    $$ SELECT to_char(t AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') $$;

CREATE FUNCTION conversation_text_id(id bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT CASE id & 3 WHEN 0 THEN 'dm_' WHEN 1 THEN 'group_' ELSE 'room_' END || id $$;

CREATE FUNCTION user_json(u users) RETURNS jsonb LANGUAGE sql STABLE AS
    $$ SELECT jsonb_build_object('id', u.id, 'username', u.username, 'display_name', u.display_name) $$;

-- What a refusal inside a mutation raises; apply_mutations turns it into the row's verdict.
CREATE FUNCTION refuse(code text, words text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'VZ001', MESSAGE = code, DETAIL = words;
END $$;

CREATE FUNCTION commit_messages(
    p_conversation bigint[], p_sender bigint[], p_content text[], p_client_message_id text[], p_parent bigint[],
    p_message_type text[])
RETURNS TABLE (ord bigint, verdict text, message_id bigint, seq bigint, created_at timestamptz, parent_message_id bigint,
    username text, display_name text, mentions bigint[], retry_after_ms bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM conversations c WHERE c.id = ANY (p_conversation) ORDER BY c.id FOR UPDATE;

    RETURN QUERY
    WITH input AS (
        SELECT * FROM unnest(p_conversation, p_sender, p_content, p_client_message_id, p_parent, p_message_type)
            WITH ORDINALITY AS i (conversation_id, sender_id, content, client_message_id, parent_id, message_type, ord)
    ), judged AS (
        SELECT i.*, u.username, u.display_name,
               first.id AS first_id, first.seq AS first_seq, first.created_at AS first_at,
               coalesce(parent.parent_message_id, parent.id) AS root_id,
               CASE WHEN m.muted_until > now()
                    THEN (extract(epoch FROM m.muted_until - now()) * 1000)::bigint END AS muted_ms,
               CASE
                   WHEN first.id IS NOT NULL THEN 'duplicate'
                   WHEN c.id IS NULL THEN 'not_found'
                   WHEN m.user_id IS NULL AND b.user_id IS NOT NULL THEN 'banned'
                   WHEN m.user_id IS NULL THEN 'not_member'
                   WHEN c.archived_at IS NOT NULL OR m.role = 'read_only' THEN 'read_only'
                   WHEN m.muted_until > now() THEN 'muted'
                   WHEN i.parent_id IS NOT NULL AND parent.id IS NULL THEN 'parent_not_found'
                   ELSE 'committed'
               END AS verdict
          FROM input i
          LEFT JOIN conversations c ON c.id = i.conversation_id
          LEFT JOIN conversation_members m ON m.conversation_id = i.conversation_id AND m.user_id = i.sender_id
          LEFT JOIN conversation_bans b ON b.conversation_id = i.conversation_id AND b.user_id = i.sender_id
          LEFT JOIN users u ON u.id = i.sender_id
          LEFT JOIN messages first ON first.conversation_id = i.conversation_id AND first.sender_id = i.sender_id
                AND first.client_message_id = i.client_message_id
          LEFT JOIN messages parent ON parent.id = i.parent_id AND parent.conversation_id = i.conversation_id
                AND parent.deleted_at IS NULL
    ), repeats AS (
        -- Repeats within the batch count among what is acceptable: a refused first one stores nothing to repeat.
        SELECT j.*, row_number() OVER (PARTITION BY j.conversation_id, j.sender_id, j.client_message_id, j.verdict
                                       ORDER BY j.ord) AS repeat_number
          FROM judged j
    ), accepted AS (
        SELECT j.*, row_number() OVER (PARTITION BY j.conversation_id ORDER BY j.ord) AS place
          FROM repeats j WHERE j.verdict = 'committed' AND j.repeat_number = 1
    ), numbered AS (
        UPDATE conversations c SET last_seq = c.last_seq + a.n
          FROM (SELECT conversation_id, count(*) AS n FROM accepted GROUP BY conversation_id) a
         WHERE c.id = a.conversation_id
        RETURNING c.id, c.last_seq - a.n AS base
    ), inserted AS (
        INSERT INTO messages AS x (conversation_id, seq, sender_id, parent_message_id, message_type, content, client_message_id)
        SELECT a.conversation_id, n.base + a.place, a.sender_id, a.root_id, a.message_type::message_type, a.content,
               a.client_message_id
          FROM accepted a JOIN numbered n ON n.id = a.conversation_id
         ORDER BY a.conversation_id, a.place
        RETURNING x.conversation_id, x.seq, x.id, x.sender_id, x.client_message_id, x.created_at
    )
    SELECT j.ord,
           CASE WHEN j.verdict = 'committed' AND j.repeat_number > 1 THEN 'duplicate' ELSE j.verdict END,
           coalesce(x.id, j.first_id), coalesce(x.seq, j.first_seq), coalesce(x.created_at, j.first_at), j.root_id,
           j.username, j.display_name, NULL::bigint[], j.muted_ms
      FROM repeats j
      LEFT JOIN inserted x ON j.verdict = 'committed' AND x.conversation_id = j.conversation_id
            AND x.sender_id = j.sender_id AND x.client_message_id = j.client_message_id
     ORDER BY j.ord;
END $$;

-- Mentions are written by a trigger, after the rows above were returned: a second look, only when there is an @.
CREATE FUNCTION mentions_of(p_messages bigint[]) RETURNS TABLE (message_id bigint, users bigint[]) LANGUAGE sql STABLE AS
    $$ SELECT message_id, array_agg(user_id ORDER BY user_id) FROM message_mentions
        WHERE message_id = ANY (p_messages) GROUP BY message_id $$;

-- What somebody else wrote after the marker; for somebody who is not a member (no marker) there is nothing to read.
CREATE FUNCTION unread_messages(p_conversation bigint, p_user bigint, p_read_seq bigint) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT count(*) FROM messages x
     WHERE x.conversation_id = p_conversation AND x.seq > p_read_seq AND x.sender_id <> p_user AND x.deleted_at IS NULL
$$;

-- A conversation as `p_user` sees it: the shape of the wire contract.
CREATE FUNCTION conversation_json(c conversations, p_user bigint) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'id', conversation_text_id(c.id), 'kind', c.kind,
        'name', coalesce(c.name, (
            SELECT u.display_name FROM users u
             WHERE c.kind = 'direct' AND u.id = CASE WHEN c.direct_low = p_user THEN c.direct_high ELSE c.direct_low END)),
        'description', c.description, 'owner_id', c.owner_id, 'role', m.role, 'last_seq', c.last_seq,
        'read_seq', coalesce(m.read_seq, 0),
        'unread_count', unread_messages(c.id, p_user, m.read_seq),
        'mention_count', (SELECT count(*) FROM message_mentions x
                           WHERE x.conversation_id = c.id AND x.user_id = p_user AND x.seq > m.read_seq),
        'member_count', coalesce(s.member_count, 0), 'last_message_at', rfc3339(s.last_message_at),
        'created_at', rfc3339(c.created_at), 'archived', c.archived_at IS NOT NULL)
      FROM (SELECT) AS one
      LEFT JOIN conversation_members m ON m.conversation_id = c.id AND m.user_id = p_user
      LEFT JOIN conversation_statistics s ON s.conversation_id = c.id
$$;

-- Takes the next seq and writes the event. Must be called under the conversation's row lock, which UPDATE takes.
CREATE FUNCTION append_event(p_conversation bigint, p_kind text, p_actor bigint, p_mutation_id bigint, p_payload jsonb)
RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    v_seq bigint;
BEGIN
    UPDATE conversations SET last_seq = last_seq + 1 WHERE id = p_conversation RETURNING last_seq INTO STRICT v_seq;
    INSERT INTO conversation_events (conversation_id, seq, kind, actor_id, payload, mutation_id)
    VALUES (p_conversation, v_seq, p_kind, p_actor, p_payload, p_mutation_id);
    RETURN jsonb_build_object('seq', v_seq, 'kind', p_kind, 'payload', p_payload, 'created_at', rfc3339(now()));
END $$;

-- What one mutation did. events: [{seq, kind, payload, created_at}]; result: the ack's data; gained/lost: users whose
-- membership changed; signal: {kind, payload} for an event without seq.
CREATE TYPE mutation_outcome AS (
    conversation_id bigint, events jsonb, result jsonb, gained bigint[], lost bigint[], signal jsonb);

CREATE FUNCTION apply_mutations(
    p_kind text[], p_conversation bigint[], p_actor bigint[], p_mutation_id bigint[], p_arguments jsonb[])
RETURNS TABLE (ord bigint, verdict text, detail text, conversation_id bigint, events jsonb, result jsonb,
    gained bigint[], lost bigint[], signal jsonb)
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    o mutation_outcome;
BEGIN
    PERFORM FROM conversations c WHERE c.id = ANY (p_conversation) ORDER BY c.id FOR UPDATE;
    FOR i IN 1 .. cardinality(p_kind) LOOP
        ord := i; verdict := 'committed'; detail := NULL; o := NULL;
        BEGIN -- a sub-transaction: one row's refusal or fault leaves the others alone
            EXECUTE format('SELECT * FROM %I($1, $2, $3, $4)', 'mutate_' || p_kind[i])
               INTO o USING p_conversation[i], p_actor[i], p_mutation_id[i], p_arguments[i];
        EXCEPTION
            WHEN SQLSTATE 'VZ001' THEN
                GET STACKED DIAGNOSTICS verdict = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
            WHEN deadlock_detected OR serialization_failure OR query_canceled OR admin_shutdown THEN
                RAISE; -- the whole statement is submitted again
            WHEN OTHERS THEN
                verdict := 'internal'; detail := SQLERRM;
        END;
        conversation_id := o.conversation_id; events := o.events; result := o.result;
        gained := o.gained; lost := o.lost; signal := o.signal;
        RETURN NEXT;
    END LOOP;
END $$;

-- The events an earlier submission of the same mutation wrote, or NULL.
CREATE FUNCTION events_of_mutation(p_mutation_id bigint) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_agg(jsonb_build_object('seq', seq, 'kind', kind, 'payload', payload, 'created_at', rfc3339(created_at))
                     ORDER BY seq)
      FROM conversation_events WHERE mutation_id = p_mutation_id
$$;

CREATE FUNCTION mutate_create_conversation(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o         mutation_outcome;
    c         conversations;
    v_kind    conversation_kind := p_arguments ->> 'kind';
    v_members bigint[];
    v_known   bigint[];
    v_created boolean := true;
BEGIN
    SELECT e.conversation_id INTO c.id FROM conversation_events e WHERE e.mutation_id = p_mutation_id LIMIT 1;
    IF FOUND THEN
        SELECT * INTO c FROM conversations x WHERE x.id = c.id;
        o.conversation_id := c.id;
        o.result := jsonb_build_object('conversation', conversation_json(c, p_actor));
        o.events := events_of_mutation(p_mutation_id);
        SELECT array_agg(m.user_id) INTO o.gained FROM conversation_members m WHERE m.conversation_id = c.id;
        RETURN o;
    END IF;

    SELECT array_agg(DISTINCT value::bigint) INTO v_members
      FROM jsonb_array_elements_text(coalesce(p_arguments -> 'member_ids', '[]')) WHERE value::bigint <> p_actor;
    SELECT array_agg(u.id) INTO v_known FROM users u WHERE u.id = ANY (v_members) AND u.is_active;
    IF coalesce(cardinality(v_known), 0) <> coalesce(cardinality(v_members), 0) THEN
        PERFORM refuse('not_found', 'data.member_ids: no such user: ' || (
            SELECT string_agg(x::text, ', ') FROM unnest(v_members) x WHERE x <> ALL (coalesce(v_known, '{}'))));
    END IF;

    IF v_kind = 'direct' THEN
        IF coalesce(cardinality(v_members), 0) <> 1 THEN
            PERFORM refuse('bad_request', 'data.member_ids: a direct conversation needs exactly one other user');
        END IF;
        INSERT INTO conversations (id, kind, direct_low, direct_high)
        VALUES (nextval('conversation_numbers') * 4, 'direct', least(p_actor, v_members[1]), greatest(p_actor, v_members[1]))
        ON CONFLICT (direct_low, direct_high) WHERE kind = 'direct' DO NOTHING
        RETURNING * INTO c;
        IF NOT FOUND THEN
            v_created := false;
            SELECT * INTO STRICT c FROM conversations x WHERE x.kind = 'direct'
               AND x.direct_low = least(p_actor, v_members[1]) AND x.direct_high = greatest(p_actor, v_members[1]);
        END IF;
    ELSE
        INSERT INTO conversations (id, kind, name, description, owner_id)
        VALUES (nextval('conversation_numbers') * 4 + CASE v_kind WHEN 'group' THEN 1 ELSE 2 END, v_kind,
                p_arguments ->> 'name', p_arguments ->> 'description', p_actor)
        RETURNING * INTO c;
    END IF;

    IF v_created THEN
        INSERT INTO conversation_members (conversation_id, user_id, role, joined_seq)
        SELECT c.id, p_actor, CASE v_kind WHEN 'direct' THEN 'member' ELSE 'owner' END::member_role, 1
        UNION ALL SELECT c.id, unnest(v_members), 'member', 1;
        o.events := jsonb_build_array(append_event(c.id, 'conversation_created', p_actor, p_mutation_id,
            jsonb_build_object('kind', c.kind, 'name', c.name, 'description', c.description, 'owner_id', c.owner_id,
                'actor', (SELECT user_json(u) FROM users u WHERE u.id = p_actor),
                'members', (SELECT jsonb_agg(user_json(u) || jsonb_build_object('role', m.role) ORDER BY u.id)
                              FROM conversation_members m JOIN users u ON u.id = m.user_id
                             WHERE m.conversation_id = c.id))));
        o.gained := p_actor || coalesce(v_members, '{}');
        SELECT * INTO c FROM conversations x WHERE x.id = c.id;
    END IF;
    o.conversation_id := c.id;
    o.result := jsonb_build_object('conversation', conversation_json(c, p_actor));
    RETURN o;
END $$;

CREATE FUNCTION locked_conversation(p_conversation bigint) RETURNS conversations LANGUAGE plpgsql AS $$
DECLARE
    c conversations;
BEGIN
    SELECT * INTO c FROM conversations x WHERE x.id = p_conversation FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM refuse('not_found', 'data.conversation_id: no such conversation');
    END IF;
    RETURN c;
END $$;

CREATE FUNCTION add_member(c conversations, p_user bigint, p_actor bigint, p_mutation_id bigint)
RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    u users;
BEGIN
    SELECT * INTO u FROM users x WHERE x.id = p_user AND x.is_active;
    IF NOT FOUND THEN
        PERFORM refuse('not_found', 'data.user_id: no such user');
    END IF;
    IF EXISTS (SELECT FROM conversation_bans b WHERE b.conversation_id = c.id AND b.user_id = p_user) THEN
        PERFORM refuse('banned', 'this user is banned from the conversation; a moderator can lift it');
    END IF;
    IF c.archived_at IS NOT NULL THEN
        PERFORM refuse('read_only', 'the conversation is archived; nobody can join it');
    END IF;
    -- The marker starts at the present: what was said before somebody joined is history, not unread.
    INSERT INTO conversation_members (conversation_id, user_id, joined_seq, read_seq)
    VALUES (c.id, p_user, c.last_seq + 1, c.last_seq + 1);
    RETURN append_event(c.id, 'member_joined', p_actor, p_mutation_id, jsonb_build_object(
        'user', user_json(u), 'role', 'member',
        'invited_by', CASE WHEN p_actor <> p_user THEN (SELECT user_json(a) FROM users a WHERE a.id = p_actor) END));
END $$;

CREATE FUNCTION mutate_join_conversation(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    v_seq bigint;
BEGIN
    o.conversation_id := c.id;
    SELECT m.joined_seq INTO v_seq FROM conversation_members m WHERE m.conversation_id = c.id AND m.user_id = p_actor;
    IF NOT FOUND THEN
        IF c.kind <> 'public_room' THEN
            PERFORM refuse('forbidden', 'only public rooms can be joined; ask a member for an invitation');
        END IF;
        o.events := jsonb_build_array(add_member(c, p_actor, p_actor, p_mutation_id));
        o.gained := ARRAY[p_actor];
        v_seq := o.events -> 0 -> 'seq';
        SELECT * INTO c FROM conversations x WHERE x.id = c.id;
    ELSE
        o.events := events_of_mutation(p_mutation_id);
        o.gained := CASE WHEN o.events IS NOT NULL THEN ARRAY[p_actor] END;
    END IF;
    o.result := jsonb_build_object('conversation', conversation_json(c, p_actor), 'seq', v_seq);
    RETURN o;
END $$;

CREATE FUNCTION mutate_leave_conversation(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    v_heir bigint;
BEGIN
    o.conversation_id := c.id;
    o.events := events_of_mutation(p_mutation_id);
    IF o.events IS NULL THEN
        IF c.kind = 'direct' THEN
            PERFORM refuse('forbidden', 'a direct conversation cannot be left');
        END IF;
        DELETE FROM conversation_members m WHERE m.conversation_id = c.id AND m.user_id = p_actor;
        IF NOT FOUND THEN
            PERFORM refuse('not_member', 'you are not a member of this conversation');
        END IF;
        o.events := jsonb_build_array(append_event(c.id, 'member_left', p_actor, p_mutation_id, jsonb_build_object(
            'user', (SELECT user_json(u) FROM users u WHERE u.id = p_actor), 'reason', 'left')));
        IF c.owner_id = p_actor THEN
            -- A conversation never ends without an owner: the highest role inherits, among equals the longest there.
            SELECT m.user_id INTO v_heir FROM conversation_members m WHERE m.conversation_id = c.id
             ORDER BY m.role DESC, m.joined_seq, m.user_id LIMIT 1;
            IF FOUND THEN
                UPDATE conversation_members m SET role = 'owner' WHERE m.conversation_id = c.id AND m.user_id = v_heir;
                UPDATE conversations x SET owner_id = v_heir WHERE x.id = c.id;
                o.events := o.events || append_event(c.id, 'member_updated', p_actor, p_mutation_id, jsonb_build_object(
                    'user', (SELECT user_json(u) FROM users u WHERE u.id = v_heir), 'role', 'owner'));
            ELSE
                UPDATE conversations x SET archived_at = now() WHERE x.id = c.id;
                o.events := o.events || append_event(c.id, 'conversation_updated', p_actor, p_mutation_id,
                    jsonb_build_object('archived', true));
            END IF;
        END IF;
    END IF;
    SELECT * INTO c FROM conversations x WHERE x.id = c.id;
    o.lost := ARRAY[p_actor];
    o.result := jsonb_build_object('conversation', conversation_json(c, p_actor), 'seq', o.events -> 0 -> 'seq');
    RETURN o;
END $$;

CREATE FUNCTION mutate_invite_member(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    v_user bigint := p_arguments -> 'user_id';
    v_role member_role;
    v_seq  bigint;
BEGIN
    o.conversation_id := c.id;
    SELECT m.role INTO v_role FROM conversation_members m WHERE m.conversation_id = c.id AND m.user_id = p_actor;
    IF NOT FOUND THEN
        PERFORM refuse('not_member', 'only members can invite; join the conversation first');
    ELSIF c.kind = 'direct' THEN
        PERFORM refuse('forbidden', 'nobody can be added to a direct conversation; create a group instead');
    ELSIF v_role = 'read_only' THEN
        PERFORM refuse('read_only', 'your role in this conversation is read-only');
    END IF;
    SELECT m.joined_seq INTO v_seq FROM conversation_members m WHERE m.conversation_id = c.id AND m.user_id = v_user;
    IF NOT FOUND THEN
        o.events := jsonb_build_array(add_member(c, v_user, p_actor, p_mutation_id));
        v_seq := o.events -> 0 -> 'seq';
        o.gained := ARRAY[v_user];
    ELSE
        o.events := events_of_mutation(p_mutation_id);
        o.gained := CASE WHEN o.events IS NOT NULL THEN ARRAY[v_user] END;
    END IF;
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user, 'seq', v_seq);
    RETURN o;
END $$;

-- Not in the change log: a marker is the reader's own, it moves forward only, and repeating it changes nothing.
CREATE FUNCTION mutate_mark_read(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    v_before bigint;
    v_after  bigint;
BEGIN
    SELECT m.read_seq INTO v_before FROM conversation_members m WHERE m.conversation_id = c.id AND m.user_id = p_actor;
    IF NOT FOUND THEN
        PERFORM refuse('not_member', 'you are not a member of this conversation');
    END IF;
    v_after := greatest(v_before, least((p_arguments -> 'seq')::bigint, c.last_seq));
    o.conversation_id := c.id;
    IF v_after > v_before THEN
        UPDATE conversation_members m SET read_seq = v_after WHERE m.conversation_id = c.id AND m.user_id = p_actor;
        o.signal := jsonb_build_object('kind', 'read_updated', 'payload',
            jsonb_build_object('user_id', p_actor, 'read_seq', v_after));
    END IF;
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'read_seq', v_after,
        'unread_count', unread_messages(c.id, p_actor, v_after));
    RETURN o;
END $$;
