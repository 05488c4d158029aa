-- Begins the next range of ids, so that the messages from now on are in the next partition. The caller has committed
-- make_message_partition for it. Only the owner can execute it.
-- Messages that are being committed now can still have ids of the range before.
-- Locks: the rows of message_partitions.

CREATE FUNCTION open_message_partition(p_first_id bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE message_partitions x SET closed_at = now() WHERE x.closed_at IS NULL;
    INSERT INTO message_partitions (first_id) VALUES (p_first_id);
    PERFORM setval('message_ids', p_first_id, false);
END $$;
