-- Begins the next range of ids. The partitions of the present one get their end, and those that make_message_partition
-- has made follow, without an end: so there is a partition for every id. Valid constraints prove that no row is behind
-- the end, so none is read. move_message_ids has to follow; until then messages go on to the range before. Only the
-- owner can execute it.
-- Locks: messages and message_search, ACCESS EXCLUSIVE, for milliseconds; the rows of message_partitions.

CREATE FUNCTION open_message_partition(p_present_id bigint, p_next_id bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_table text;
    v_name  text;
BEGIN
    LOCK TABLE messages, message_search IN ACCESS EXCLUSIVE MODE;
    FOREACH v_table IN ARRAY '{messages,message_search}'::text[] LOOP
        v_name := v_table || '_' || p_present_id / 10000000000;
        EXECUTE format('ALTER TABLE public.%I DETACH PARTITION public.%I', v_table, v_name);
        EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%s) TO (%s)', v_table, v_name,
                       CASE WHEN p_present_id = 0 THEN 'MINVALUE' ELSE p_present_id::text END, p_next_id);
        EXECUTE format('ALTER TABLE public.%I DROP CONSTRAINT messages_end', v_name);
        EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%s) TO (MAXVALUE)', v_table,
                       v_table || '_' || p_next_id / 10000000000, p_next_id);
    END LOOP;
    UPDATE message_partitions x SET closed_at = now() WHERE x.first_id = p_present_id;
    INSERT INTO message_partitions (first_id) VALUES (p_next_id);
END $$;
