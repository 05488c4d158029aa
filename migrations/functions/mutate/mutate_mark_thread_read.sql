-- Moves the actor's read marker of a thread forward. It is not in the change log.
-- Locks: the conversation's row (locked_conversation).

CREATE FUNCTION mutate_mark_thread_read(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    c conversations := locked_conversation(p_conversation);
    m conversation_members := acting_member(c, p_actor);
    h message_head := message_in(c, p_arguments);
    v_root bigint := coalesce(h.parent_message_id, h.id);
    v_seq  bigint := least((p_arguments -> 'seq')::bigint, c.last_seq);
    o mutation_outcome;
BEGIN
    IF NOT EXISTS (SELECT FROM thread_followers x WHERE x.root_message_id = v_root AND x.user_id = p_actor) THEN
        PERFORM refuse('conflict', 'you do not follow this thread; follow it first (follow_thread)');
    END IF;
    UPDATE thread_followers x SET read_seq = v_seq
     WHERE x.root_message_id = v_root AND x.user_id = p_actor AND x.read_seq < v_seq;
    IF FOUND THEN
        RETURN following_outcome(c, v_root, p_actor);
    END IF;
    o.conversation_id := c.id;
    o.result := following_json(v_root, p_actor);
    RETURN o;
END $$;
