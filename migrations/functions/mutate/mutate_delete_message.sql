-- Deletes a message with its text, earlier texts, reactions and pin. The row stays, so that seq has no gap.
-- Locks: the conversation's row (locked_conversation).

CREATE FUNCTION mutate_delete_message(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := acting_member(c, p_actor);
    h message_head := message_in(c, p_arguments);
    v_event jsonb;
BEGIN
    o.conversation_id := c.id;
    PERFORM refuse_foreign_deletion(c, m, h);
    IF c.archived_at IS NOT NULL THEN
        PERFORM refuse('read_only', 'the conversation is archived; nothing in it can be changed');
    END IF;
    IF h.deleted_at IS NOT NULL THEN
        o.result := jsonb_build_object('message_id', h.id, 'seq', c.last_seq);
        RETURN o;
    END IF;
    UPDATE messages x SET content = '', deleted_at = now(),
           system = CASE WHEN h.message_type = 'system' THEN '{}'::jsonb END
     WHERE x.id = h.id;
    DELETE FROM message_reactions x WHERE x.message_id = h.id;
    DELETE FROM message_pins x WHERE x.conversation_id = c.id AND x.message_id = h.id;
    IF h.parent_message_id IS NOT NULL THEN
        UPDATE thread_statistics t SET reply_count = t.reply_count - 1,
               last_reply_at = coalesce((
                   SELECT max(x.created_at) FROM messages x
                    WHERE x.parent_message_id = h.parent_message_id AND x.deleted_at IS NULL), t.last_reply_at)
         WHERE t.root_message_id = h.parent_message_id;
        DELETE FROM thread_statistics t WHERE t.root_message_id = h.parent_message_id AND t.reply_count <= 0;
    END IF;
    v_event := append_told(c, 'message_deleted', p_actor, p_mutation_id,
        jsonb_build_object('message_id', h.id, 'parent_message_id', h.parent_message_id, 'actor', actor_json(p_actor)),
        jsonb_build_object('thread', thread_json(c.id, h.parent_message_id)));
    o.events := jsonb_build_array(v_event);
    o.result := jsonb_build_object('message_id', h.id, 'seq', v_event -> 'seq');
    RETURN o;
END $$;
