-- Follows a thread or stops following it. Only the actor's own connections hear of it; it is not in the change log.
-- Locks: the conversation's row (locked_conversation).

CREATE FUNCTION mutate_follow_thread(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    c conversations := locked_conversation(p_conversation);
    m conversation_members := acting_member(c, p_actor);
    h message_head := message_in(c, p_arguments);
    v_root bigint := coalesce(h.parent_message_id, h.id);
BEGIN
    IF (p_arguments -> 'following')::boolean THEN
        INSERT INTO thread_followers (root_message_id, user_id, conversation_id, read_seq)
        VALUES (v_root, p_actor, c.id, c.last_seq) ON CONFLICT DO NOTHING;
    ELSE
        DELETE FROM thread_followers x WHERE x.root_message_id = v_root AND x.user_id = p_actor;
    END IF;
    RETURN following_outcome(c, v_root, p_actor);
END $$;
