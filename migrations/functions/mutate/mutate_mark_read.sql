-- Moves the actor's read marker forward, never back. The marker is not in the change log, so a repeat changes nothing.
-- Members receive it unless the reader keeps receipts private or the conversation has more than 1,000 members.
-- Locks: the conversation's row (locked_conversation).

CREATE FUNCTION mutate_mark_read(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    v_before  bigint;
    v_after   bigint;
    v_payload jsonb;
BEGIN
    SELECT m.read_seq INTO v_before FROM conversation_members m WHERE m.conversation_id = c.id AND m.user_id = p_actor;
    IF NOT FOUND THEN
        PERFORM refuse('not_member', 'you are not a member of this conversation');
    END IF;
    v_after := greatest(v_before, least((p_arguments -> 'seq')::bigint, c.last_seq));
    o.conversation_id := c.id;
    IF v_after > v_before THEN
        UPDATE conversation_members m SET read_seq = v_after WHERE m.conversation_id = c.id AND m.user_id = p_actor;
        v_payload := jsonb_build_object('user_id', p_actor, 'read_seq', v_after);
        IF (SELECT u.receipts_private FROM users u WHERE u.id = p_actor)
           OR (SELECT s.member_count > 1000 FROM conversation_statistics s WHERE s.conversation_id = c.id) THEN
            o.notices := jsonb_build_array(jsonb_build_object(
                'users', ARRAY[p_actor], 'kind', 'read_updated', 'payload', v_payload));
        ELSE
            o.signal := jsonb_build_object('kind', 'read_updated', 'payload', v_payload);
        END IF;
    END IF;
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'read_seq', v_after,
        'unread_count', unread_messages(c.id, p_actor, v_after));
    RETURN o;
END $$;
