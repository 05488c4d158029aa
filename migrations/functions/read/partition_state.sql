-- What of the partition of a table for a range of ids is there: NULL, `attached`, `pending` (a detachment was cut
-- short) or `detached`.

CREATE FUNCTION partition_state(p_table text, p_first_id bigint) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN i.inhrelid IS NULL THEN 'detached' WHEN i.inhdetachpending THEN 'pending' ELSE 'attached' END
      FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
     WHERE c.oid = to_regclass(format('public.%I', partition_name(p_table, p_first_id)))
$$;
