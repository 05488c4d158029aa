-- Begins the next range of ids: divides messages, after message_search was divided. move_message_ids has to follow;
-- until then messages go on to the range before. Only the owner can execute it.
-- Locks: as divide_partition; the rows of message_partitions.

CREATE FUNCTION open_message_partition(p_present_id bigint, p_next_id bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM divide_partition('messages', p_present_id, p_next_id);
    UPDATE message_partitions x SET closed_at = now() WHERE x.first_id = p_present_id;
    INSERT INTO message_partitions (first_id) VALUES (p_next_id);
END $$;
