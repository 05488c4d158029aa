-- The first id of the range that a message's id is in. In a conversation, later messages have larger ids than this: in
-- the first range, whose first id is 0, ids can be those that an import has kept, in any order; behind it ids rise with
-- seq.
-- SECURITY DEFINER: ranges are no user's, and chat_app has no rights to them.

CREATE FUNCTION message_floor(p_id bigint) RETURNS bigint LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    RETURN coalesce((SELECT max(x.first_id) FROM message_partitions x WHERE x.first_id <= p_id), 0);
END $$;

REVOKE ALL ON FUNCTION message_floor(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION message_floor(bigint) TO chat_app;
GRANT EXECUTE ON FUNCTION message_floor(bigint) TO chat_writer;
