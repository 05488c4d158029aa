-- Deletes a message with its text, earlier texts, reactions, pin and files. The row stays, so that seq has no gap.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_delete_message(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    h message_head := message_in(c, p);
    v_files bigint[];
BEGIN
    PERFORM refuse_foreign_deletion(c, m, h);
    IF c.archived_at IS NOT NULL THEN
        PERFORM refuse('read_only', 'The conversation is archived. Nothing in it can be changed.');
    END IF;
    o.seq := c.last_seq;
    o.result := jsonb_build_object('message_id', h.id);
    IF h.deleted_at IS NOT NULL THEN
        RETURN o;
    END IF;
    UPDATE messages x SET content = '', deleted_at = now(),
           system = CASE WHEN h.message_type = 'system' THEN '{}'::jsonb END
     WHERE x.id = h.id;
    DELETE FROM message_reactions x WHERE x.message_id = h.id;
    DELETE FROM message_pins x WHERE x.conversation_id = c.id AND x.message_id = h.id;
    WITH gone AS (DELETE FROM message_files x WHERE x.message_id = h.id RETURNING x.file_id)
    SELECT array_agg(file_id) INTO v_files FROM gone;
    IF v_files IS NOT NULL THEN
        PERFORM remove_unused_files(v_files);
    END IF;
    IF h.parent_message_id IS NOT NULL THEN
        UPDATE thread_statistics t SET reply_count = t.reply_count - 1,
               last_reply_at = coalesce((
                   SELECT max(x.created_at) FROM messages x
                    WHERE x.parent_message_id = h.parent_message_id AND x.deleted_at IS NULL), t.last_reply_at)
         WHERE t.root_message_id = h.parent_message_id;
        DELETE FROM thread_statistics t WHERE t.root_message_id = h.parent_message_id AND t.reply_count <= 0;
    END IF;
    RETURN append_event(o, c, p, 'message_deleted',
        jsonb_build_object('message_id', h.id, 'parent_message_id', h.parent_message_id,
                           'actor', actor_json(p.actor_id)),
        jsonb_build_object('thread', thread_json(c.id, h.parent_message_id)));
END $$;
