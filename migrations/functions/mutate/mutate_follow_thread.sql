-- Follows a thread or stops following it. Only the actor's own connections receive it; it is not in the change log.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_follow_thread(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    h message_head := message_in(c, p);
    v_root bigint := coalesce(h.parent_message_id, h.id);
BEGIN
    IF (p.arguments -> 'following')::boolean THEN
        INSERT INTO thread_followers (root_message_id, user_id, conversation_id, read_seq)
        VALUES (v_root, p.actor_id, c.id, c.last_seq) ON CONFLICT DO NOTHING;
    ELSE
        DELETE FROM thread_followers x WHERE x.root_message_id = v_root AND x.user_id = p.actor_id;
    END IF;
    RETURN following_outcome(v_root, p.actor_id);
END $$;
