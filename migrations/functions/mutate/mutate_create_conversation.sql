-- Creates a conversation. A direct one exists once per pair: a second attempt returns the first. Neither is possible
-- while one of the two has blocked the other. Users who must decide themselves are invited (addable_users).
-- Locks: none before the insert; the unique index on the pair orders two attempts.

CREATE FUNCTION mutate_create_conversation(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    v_kind    conversation_kind := p.arguments ->> 'kind';
    v_members bigint[];
    v_known   bigint[];
    v_invited bigint[] := '{}';
    v_blocked bigint;
    v_created boolean := true;
BEGIN
    SELECT array_agg(DISTINCT value::bigint) INTO v_members
      FROM jsonb_array_elements_text(coalesce(p.arguments -> 'member_ids', '[]')) WHERE value::bigint <> p.actor_id;
    SELECT array_agg(u.id) INTO v_known FROM users u WHERE u.id = ANY (v_members) AND u.is_active;
    IF coalesce(cardinality(v_known), 0) <> coalesce(cardinality(v_members), 0) THEN
        PERFORM refuse('not_found', format('data.member_ids: There is no such user: %s.', (
            SELECT string_agg(x::text, ', ') FROM unnest(v_members) x WHERE x <> ALL (coalesce(v_known, '{}')))));
    END IF;

    IF v_kind = 'direct' THEN
        IF coalesce(cardinality(v_members), 0) <> 1 THEN
            PERFORM refuse('bad_request', 'data.member_ids: A direct conversation needs exactly one other user.');
        ELSIF EXISTS (SELECT FROM user_blocks b WHERE b.user_id = p.actor_id AND b.blocked_id = v_members[1]) THEN
            PERFORM refuse('blocked', 'You have blocked this user. Unblock them to start a conversation.');
        ELSIF is_blocked(p.actor_id, v_members[1]) THEN
            PERFORM refuse('blocked', 'You cannot start a conversation with this user.');
        END IF;
        INSERT INTO conversations (id, kind, direct_low, direct_high)
        VALUES (nextval('conversation_numbers') * 4, 'direct',
                least(p.actor_id, v_members[1]), greatest(p.actor_id, v_members[1]))
        ON CONFLICT (direct_low, direct_high) WHERE kind = 'direct' DO NOTHING
        RETURNING * INTO c;
        IF NOT FOUND THEN
            v_created := false;
            SELECT * INTO STRICT c FROM conversations x WHERE x.kind = 'direct'
               AND x.direct_low = least(p.actor_id, v_members[1])
               AND x.direct_high = greatest(p.actor_id, v_members[1]);
        END IF;
    ELSE
        SELECT x INTO v_blocked FROM unnest(v_members) x WHERE is_blocked(x, p.actor_id) LIMIT 1;
        IF FOUND THEN
            PERFORM refuse('blocked', format('data.member_ids: You cannot add user %s.', v_blocked));
        END IF;
        v_known := addable_users(v_members, p.actor_id);
        v_invited := ARRAY(SELECT x FROM unnest(v_members) x WHERE x <> ALL (v_known));
        v_members := v_known;
        INSERT INTO conversations (id, kind, name, description, owner_id)
        VALUES (nextval('conversation_numbers') * 4 + CASE v_kind WHEN 'group' THEN 1 ELSE 2 END, v_kind,
                p.arguments ->> 'name', p.arguments ->> 'description', p.actor_id)
        RETURNING * INTO c;
    END IF;

    IF v_created THEN
        INSERT INTO conversation_members (conversation_id, user_id, role, joined_seq)
        SELECT c.id, p.actor_id, CASE v_kind WHEN 'direct' THEN 'member' ELSE 'owner' END::member_role, 1
        UNION ALL SELECT c.id, unnest(v_members), 'member', 1;
        o := append_event(o, c, p, 'conversation_created', jsonb_build_object(
            'kind', c.kind, 'name', c.name, 'description', c.description, 'owner_id', c.owner_id,
            'actor', actor_json(p.actor_id),
            'members', (SELECT jsonb_agg(user_json(u) || jsonb_build_object('role', x.role)
                                         || CASE WHEN u.is_bot THEN '{"bot": true}' ELSE '{}' END::jsonb
                                         ORDER BY u.id)
                          FROM conversation_members x JOIN users u ON u.id = x.user_id
                         WHERE x.conversation_id = c.id)));
        o.gained := p.actor_id || coalesce(v_members, '{}');
        o := invite_users(o, c, p, v_invited);
    END IF;
    o.seq := NULL;
    o.conversation_id := c.id;
    o.result := jsonb_build_object('conversation', conversation_now(c.id, p.actor_id))
        || CASE WHEN v_invited = '{}' THEN '{}' ELSE jsonb_build_object('invited_user_ids', v_invited) END;
    RETURN o;
END $$;
