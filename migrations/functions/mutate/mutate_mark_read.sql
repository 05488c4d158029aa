-- Moves the actor's read marker forward, never back. The marker is not in the change log, so a repeat changes nothing.
-- Members receive it unless the reader keeps receipts private or the conversation has more than 1,000 members. Members
-- between whom and the reader there is a block do not receive it.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_mark_read(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    v_after   bigint := greatest(m.read_seq, least((p.arguments -> 'seq')::bigint, c.last_seq));
    v_payload jsonb;
    v_blocked bigint[];
BEGIN
    IF m.user_id IS NULL THEN
        PERFORM refuse_outsider(c);
    ELSIF v_after > m.read_seq THEN
        UPDATE conversation_members x SET read_seq = v_after WHERE x.conversation_id = c.id AND x.user_id = p.actor_id;
        v_payload := jsonb_build_object('user_id', p.actor_id, 'read_seq', v_after);
        v_blocked := members_blocked_with(c.id, p.actor_id);
        IF (SELECT u.receipts_private FROM users u WHERE u.id = p.actor_id)
           OR v_blocked IS NULL
           OR (SELECT s.member_count > 1000 FROM conversation_statistics s WHERE s.conversation_id = c.id) THEN
            o.notices := jsonb_build_array(jsonb_build_object(
                'users', ARRAY[p.actor_id], 'kind', 'read_updated', 'payload', v_payload));
        ELSE
            o.signal := jsonb_build_object(
                'kind', 'read_updated', 'payload', v_payload, 'hidden_from', v_blocked);
        END IF;
    END IF;
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'read_seq', v_after,
        'unread_count', unread_messages(c, p.actor_id, v_after));
    RETURN o;
END $$;
