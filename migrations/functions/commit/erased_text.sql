-- The text of a message with the name of a person replaced, while that person is being erased; otherwise NULL.
-- SECURITY DEFINER: chat_writer cannot read texts. It gets one only in this form, and for as long as an erasure runs.
-- Locks: none.

CREATE FUNCTION erased_text(p_message bigint, p_user bigint) RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path FROM CURRENT AS $$
BEGIN
    RETURN (SELECT without_name(m.content, e.username, e.user_id) FROM messages m, erasures e
             WHERE m.id = p_message AND e.user_id = p_user AND e.username IS NOT NULL);
END $$;

REVOKE ALL ON FUNCTION erased_text(bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION erased_text(bigint, bigint) TO chat_writer;
