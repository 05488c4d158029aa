-- Gives the first partition of messages and of message_search an end, from where on the next one has the ids. Valid
-- constraints prove that no row is behind it, so none is read. Only the owner can execute it.
-- Locks: messages and message_search, ACCESS EXCLUSIVE, for milliseconds.

CREATE FUNCTION end_first_partition(p_end bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE messages, message_search IN ACCESS EXCLUSIVE MODE;
    ALTER TABLE messages DETACH PARTITION messages_0;
    ALTER TABLE message_search DETACH PARTITION message_search_0;
    EXECUTE format('ALTER TABLE messages ATTACH PARTITION messages_0 FOR VALUES FROM (MINVALUE) TO (%s)', p_end);
    EXECUTE format(
        'ALTER TABLE message_search ATTACH PARTITION message_search_0 FOR VALUES FROM (MINVALUE) TO (%s)', p_end);
    ALTER TABLE messages_0 DROP CONSTRAINT messages_0_end;
    ALTER TABLE message_search_0 DROP CONSTRAINT messages_0_end;
END $$;
