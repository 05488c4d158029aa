-- The range of ids that all messages of a conversation from one seq to another have: from p_floor on, below p_ceiling.
-- With it, PostgreSQL opens the partitions of this range and no others. p_first is the first seq in the range, 0 for
-- the beginning of the log; p_next is the first seq after the range, NULL at the end of the log.
-- A seq before the first one is allowed. In PL/pgSQL, whose plans are kept.
-- SECURITY DEFINER: a policy would look up the user's conversations for each call. It shows nothing of a message.

CREATE FUNCTION message_span(p_conversation bigint, p_from bigint, p_to bigint,
    OUT p_floor bigint, OUT p_first bigint, OUT p_ceiling bigint, OUT p_next bigint) LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    SELECT x.first_id, x.first_seq INTO p_floor, p_first FROM conversation_partitions x
     WHERE x.conversation_id = p_conversation AND x.first_seq <= p_from ORDER BY x.first_seq DESC LIMIT 1;
    SELECT x.first_id, x.first_seq INTO p_ceiling, p_next FROM conversation_partitions x
     WHERE x.conversation_id = p_conversation AND x.first_seq > p_to ORDER BY x.first_seq LIMIT 1;
    p_floor := coalesce(p_floor, 0);
    p_first := coalesce(p_first, 0);
    p_ceiling := coalesce(p_ceiling, 9223372036854775807);
END $$;

REVOKE ALL ON FUNCTION message_span(bigint, bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION message_span(bigint, bigint, bigint) TO chat_app;
GRANT EXECUTE ON FUNCTION message_span(bigint, bigint, bigint) TO chat_writer;
