-- Requests to join a private room. A user who has its id may request that, so this is the one command that tells an
-- outsider that a private room exists; of groups and direct conversations it does not. A room has 200 open requests at
-- most, a user 100.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_request_to_join(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    r conversation_join_requests;
BEGIN
    IF m.user_id IS NOT NULL THEN
        PERFORM refuse('conflict', 'You are already a member of this conversation.');
    ELSIF EXISTS (SELECT FROM conversation_bans b WHERE b.conversation_id = c.id AND b.user_id = p.actor_id) THEN
        PERFORM refuse('banned', 'You are banned from this conversation. A moderator can lift the ban.');
    ELSIF c.kind = 'public_room' THEN
        PERFORM refuse('conflict', 'The room is public. Send join_conversation.');
    ELSIF c.kind <> 'private_room' OR c.archived_at IS NOT NULL THEN
        PERFORM refuse_outsider(c);
    END IF;
    SELECT * INTO r FROM conversation_join_requests x WHERE x.conversation_id = c.id AND x.user_id = p.actor_id;
    IF NOT FOUND THEN
        IF (SELECT count(*) FROM conversation_join_requests x WHERE x.conversation_id = c.id) >= 200 THEN
            PERFORM refuse('conflict', 'The room has 200 open requests. Its moderators must decide on some first.');
        ELSIF (SELECT count(*) FROM conversation_join_requests x WHERE x.user_id = p.actor_id) >= 100 THEN
            PERFORM refuse('conflict', 'You have 100 open requests. Send cancel_join_request for one first.');
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
