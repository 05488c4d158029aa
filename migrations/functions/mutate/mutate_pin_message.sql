-- Pins or unpins a message. A conversation has 50 pins at most.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_pin_message(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    h message_head := message_in(c, p);
    v_pinned boolean := (p.arguments -> 'pinned')::boolean;
    v_before boolean;
BEGIN
    PERFORM refuse_deleted(h);
    IF c.kind <> 'direct' AND m.role < 'moderator' THEN
        PERFORM refuse('forbidden', 'Pinning needs the role moderator or higher.');
    END IF;
    o.seq := c.last_seq;
    o.result := jsonb_build_object('message_id', h.id, 'pinned', v_pinned);
    v_before := EXISTS (SELECT FROM message_pins x WHERE x.conversation_id = c.id AND x.message_id = h.id);
    IF v_before = v_pinned THEN
        RETURN o;
    ELSIF v_pinned AND (SELECT count(*) FROM message_pins x WHERE x.conversation_id = c.id) >= 50 THEN
        PERFORM refuse('conflict', 'A conversation can have 50 pinned messages. Unpin one first.');
    END IF;
    o := append_event(o, c, p, 'message_pinned',
        jsonb_build_object('message_id', h.id, 'pinned', v_pinned, 'actor', actor_json(p.actor_id)));
    IF v_pinned THEN
        INSERT INTO message_pins (conversation_id, message_id, pinned_by, seq) VALUES (c.id, h.id, p.actor_id, o.seq);
    ELSE
        DELETE FROM message_pins x WHERE x.conversation_id = c.id AND x.message_id = h.id;
    END IF;
    RETURN o;
END $$;
