-- Requests to join a private room. A user who has its id may request that. The answer is the same whether or not there
-- is such a room, as a knock on a door is heard or not: ids can be guessed. So a request that no room receives is kept
-- as well, in unheard_requests, and counts like the others; it appears in the user's own list. This covers rooms that
-- do not exist, archived ones, and those with 200 open requests. A user has 100 open requests at most. An id of a group
-- or a direct conversation shows by itself that nobody can ask there. A request that a room receives takes a little
-- longer, for its audit row and its notice. charge_toggle leaves too few requests to find that in the noise.
-- Locks: the conversation's row, which apply_mutations holds; the user's row of toggle_budgets.

CREATE FUNCTION mutate_request_to_join(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    v_text text := p.arguments ->> 'text';
    r conversation_join_requests;
BEGIN
    IF m.user_id IS NOT NULL THEN
        PERFORM refuse('conflict', 'You are already a member of this conversation.');
    ELSIF EXISTS (SELECT FROM conversation_bans b WHERE b.conversation_id = c.id AND b.user_id = p.actor_id) THEN
        PERFORM refuse('banned', 'You are banned from this conversation. A moderator can lift the ban.');
    ELSIF c.kind = 'public_room' THEN
        PERFORM refuse('conflict', 'The room is public. Send join_conversation.');
    ELSIF p.conversation_id & 3 <> 2 THEN
        PERFORM refuse_outsider(c);
    END IF;
    PERFORM charge_toggle(p.actor_id);
    o.conversation_id := p.conversation_id;
    o.result := jsonb_build_object('conversation_id', conversation_text_id(p.conversation_id), 'requested', true);
    SELECT * INTO r FROM conversation_join_requests x WHERE x.conversation_id = c.id AND x.user_id = p.actor_id;
    IF r.user_id IS NOT NULL AND r.text IS NOT DISTINCT FROM v_text THEN
        RETURN o;
    END IF;
    IF r.user_id IS NULL AND NOT EXISTS (
            SELECT FROM unheard_requests x WHERE x.user_id = p.actor_id AND x.conversation_id = p.conversation_id)
       AND (SELECT count(*) FROM conversation_join_requests x WHERE x.user_id = p.actor_id)
         + (SELECT count(*) FROM unheard_requests x WHERE x.user_id = p.actor_id) >= 100 THEN
        PERFORM refuse('conflict', 'You have 100 open requests. Send cancel_join_request for one first.');
    END IF;
    IF c.id IS NULL OR c.archived_at IS NOT NULL OR r.user_id IS NULL AND (
            SELECT count(*) FROM conversation_join_requests x WHERE x.conversation_id = c.id) >= 200 THEN
        INSERT INTO unheard_requests (user_id, conversation_id, text) VALUES (p.actor_id, p.conversation_id, v_text)
        ON CONFLICT (user_id, conversation_id) DO UPDATE SET text = excluded.text;
        RETURN o;
    END IF;
    DELETE FROM unheard_requests x WHERE x.user_id = p.actor_id AND x.conversation_id = c.id;
    INSERT INTO conversation_join_requests (conversation_id, user_id, text) VALUES (c.id, p.actor_id, v_text)
    ON CONFLICT (conversation_id, user_id) DO UPDATE SET text = excluded.text
    RETURNING * INTO r;
    o.notices := request_notice(c.id, '{}', 'join_requested', jsonb_build_object(
        'user', actor_json(p.actor_id), 'text', r.text, 'created_at', rfc3339(r.created_at)));
    RETURN o;
END $$;
