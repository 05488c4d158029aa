-- Moves the actor's read marker of a thread forward. It is not in the change log.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_mark_thread_read(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    h message_head := message_in(c, p);
    v_root bigint := coalesce(h.parent_message_id, h.id);
    v_seq  bigint := least((p.arguments -> 'seq')::bigint, c.last_seq);
BEGIN
    IF NOT EXISTS (SELECT FROM thread_followers x WHERE x.root_message_id = v_root AND x.user_id = p.actor_id) THEN
        PERFORM refuse('conflict', 'You do not follow this thread. Send follow_thread first.');
    END IF;
    UPDATE thread_followers x SET read_seq = v_seq
     WHERE x.root_message_id = v_root AND x.user_id = p.actor_id AND x.read_seq < v_seq;
    IF FOUND THEN
        RETURN following_outcome(v_root, p.actor_id);
    END IF;
    o.result := following_json(v_root, p.actor_id);
    RETURN o;
END $$;
