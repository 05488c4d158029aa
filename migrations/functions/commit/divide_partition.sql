-- Gives the last partition of messages or message_search an end, and attaches the next one, which has none and which
-- make_message_partition has made. A valid constraint proves that no row is behind the end, so none is read. Does
-- nothing if it was done. Only the owner can execute it.
-- Locks: that table, ACCESS EXCLUSIVE, for milliseconds. One table in a transaction: a search locks both.

CREATE FUNCTION divide_partition(p_table text, p_present_id bigint, p_next_id bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_present text := partition_name(p_table, p_present_id);
BEGIN
    EXECUTE format('LOCK TABLE public.%I IN ACCESS EXCLUSIVE MODE', p_table);
    IF partition_state(p_table, p_next_id) = 'attached' THEN
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = to_regclass(format('public.%I', v_present))
                      AND k.conname = 'messages_end' AND k.convalidated) THEN
        RAISE EXCEPTION 'the end of % is not proved', v_present;
    END IF;
    EXECUTE format('ALTER TABLE public.%I DETACH PARTITION public.%I', p_table, v_present);
    EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%s) TO (%s)', p_table, v_present,
                   CASE WHEN p_present_id = 0 THEN 'MINVALUE' ELSE p_present_id::text END, p_next_id);
    EXECUTE format('ALTER TABLE public.%I DROP CONSTRAINT messages_end', v_present);
    EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%s) TO (MAXVALUE)', p_table,
                   partition_name(p_table, p_next_id), p_next_id);
END $$;
