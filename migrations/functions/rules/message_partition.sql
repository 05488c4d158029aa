-- The beginning of the range of ids that a message's id is in. A partition has one or more whole ranges.

CREATE FUNCTION message_partition(p_id bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT p_id - p_id % 10000000000 $$;
