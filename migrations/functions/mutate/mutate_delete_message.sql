-- Deletes a message. A message that is deleted already stays as it is.
-- Locks: as tombstone_message.

CREATE FUNCTION mutate_delete_message(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    h message_head := message_in(c, p);
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
    RETURN tombstone_message(o, c, p, h);
END $$;
