-- Moves the sequence of message ids to the range that was begun last, unless it is there. Other transactions see it at
-- once, so open_message_partition must be committed before. Only the owner can execute it.
-- Locks: none.

CREATE FUNCTION move_message_ids() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_first bigint := (SELECT x.first_id FROM message_partitions x WHERE x.closed_at IS NULL);
BEGIN
    IF (SELECT s.last_value FROM message_ids s) < v_first THEN
        PERFORM setval('message_ids', v_first, false);
    END IF;
END $$;
