-- The name of the partition of messages or message_search for the range of ids that begins with p_first_id.

CREATE FUNCTION partition_name(p_table text, p_first_id bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
    $$ SELECT p_table || '_' || p_first_id / 10000000000 $$;
