-- Asks to join a private room. A room has 200 open requests at most, a user 100.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_request_to_join(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    r conversation_join_requests;
BEGIN
    IF m.user_id IS NOT NULL THEN
        PERFORM refuse('conflict', 'you are a member of this conversation already');
    ELSIF EXISTS (SELECT FROM conversation_bans b WHERE b.conversation_id = c.id AND b.user_id = p.actor_id) THEN
        PERFORM refuse('banned', 'you are banned from this conversation; a moderator can lift it');
    ELSIF c.kind = 'public_room' THEN
        PERFORM refuse('conflict', 'this room is public: join it (join_conversation)');
    ELSIF c.kind <> 'private_room' THEN
        PERFORM refuse('forbidden', 'only private rooms can be asked for; ask a member for an invitation');
    ELSIF c.archived_at IS NOT NULL THEN
        PERFORM refuse('read_only', 'the conversation is archived; nobody can join it');
    END IF;
    SELECT * INTO r FROM conversation_join_requests x WHERE x.conversation_id = c.id AND x.user_id = p.actor_id;
    IF NOT FOUND THEN
        IF (SELECT count(*) FROM conversation_join_requests x WHERE x.conversation_id = c.id) >= 200 THEN
            PERFORM refuse('conflict', 'this room has 200 open requests; its moderators must decide on some first');
        ELSIF (SELECT count(*) FROM conversation_join_requests x WHERE x.user_id = p.actor_id) >= 100 THEN
            PERFORM refuse('conflict', 'you have 100 open requests; withdraw one first (cancel_join_request)');
        END IF;
    END IF;
    IF r.user_id IS NULL OR r.text IS DISTINCT FROM p.arguments ->> 'text' THEN
        INSERT INTO conversation_join_requests (conversation_id, user_id, text)
        VALUES (c.id, p.actor_id, p.arguments ->> 'text')
        ON CONFLICT (conversation_id, user_id) DO UPDATE SET text = excluded.text
        RETURNING * INTO r;
        o.notices := request_notice(c.id, '{}', 'join_requested', jsonb_build_object(
            'user', actor_json(p.actor_id), 'text', r.text, 'created_at', rfc3339(r.created_at)));
    END IF;
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'requested', true);
    RETURN o;
END $$;
