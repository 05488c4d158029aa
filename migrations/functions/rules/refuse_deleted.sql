-- Refuses a mutation of a deleted message.

CREATE FUNCTION refuse_deleted(h message_head) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF h.deleted_at IS NOT NULL THEN
        PERFORM refuse('not_found', 'data.message_id: This message was deleted.');
    END IF;
END $$;
