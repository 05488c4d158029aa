-- Pins or unpins a message. A conversation has 50 pins at most.
-- Locks: the conversation's row (locked_conversation).

CREATE FUNCTION mutate_pin_message(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := speaking_member(c, p_actor);
    h message_head := message_in(c, p_arguments);
    v_pinned boolean := (p_arguments -> 'pinned')::boolean;
    v_is     boolean;
    v_event  jsonb;
BEGIN
    o.conversation_id := c.id;
    PERFORM refuse_deleted(h);
    IF c.kind <> 'direct' AND m.role < 'moderator' THEN
        PERFORM refuse('forbidden', 'pinning is for moderators and up');
    END IF;
    v_is := EXISTS (SELECT FROM message_pins x WHERE x.conversation_id = c.id AND x.message_id = h.id);
    IF v_is = v_pinned THEN
        o.result := jsonb_build_object('message_id', h.id, 'pinned', v_pinned, 'seq', c.last_seq);
        RETURN o;
    ELSIF v_pinned AND (SELECT count(*) FROM message_pins x WHERE x.conversation_id = c.id) >= 50 THEN
        PERFORM refuse('conflict', 'a conversation can have 50 pinned messages; unpin one first');
    END IF;
    v_event := append_event(c.id, 'message_pinned', p_actor, p_mutation_id,
        jsonb_build_object('message_id', h.id, 'pinned', v_pinned, 'actor', actor_json(p_actor)));
    IF NOT v_pinned THEN
        DELETE FROM message_pins x WHERE x.conversation_id = c.id AND x.message_id = h.id;
    ELSE
        INSERT INTO message_pins (conversation_id, message_id, pinned_by, seq)
        VALUES (c.id, h.id, p_actor, (v_event -> 'seq')::bigint);
    END IF;
    o.events := jsonb_build_array(v_event);
    o.result := jsonb_build_object('message_id', h.id, 'pinned', v_pinned, 'seq', v_event -> 'seq');
    RETURN o;
END $$;
