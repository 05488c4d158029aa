-- Removes the text, earlier texts, reactions, pin and files of a message, and appends message_deleted. The row stays,
-- so that seq has no gap.
-- Locks: the conversation's row, which apply_mutations holds; then the rows of its files and of file_usage.

CREATE FUNCTION tombstone_message(o mutation_outcome, c conversations, p mutation, h message_head)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    v_files bigint[];
BEGIN
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
                    WHERE x.parent_message_id = h.parent_message_id AND x.deleted_at IS NULL
                      AND x.id >= message_floor(h.parent_message_id)), t.last_reply_at)
         WHERE t.root_message_id = h.parent_message_id;
        DELETE FROM thread_statistics t WHERE t.root_message_id = h.parent_message_id AND t.reply_count <= 0;
    END IF;
    RETURN append_event(o, c, p, 'message_deleted',
        jsonb_build_object('message_id', h.id, 'parent_message_id', h.parent_message_id,
                           'actor', actor_json(p.actor_id)),
        jsonb_build_object('thread', thread_json(c.id, h.parent_message_id)));
END $$;
