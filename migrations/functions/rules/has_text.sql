-- Whether a message has this text.
-- SECURITY DEFINER: chat_writer cannot read texts.

CREATE FUNCTION has_text(p_message bigint, p_content text) RETURNS boolean LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    RETURN EXISTS (SELECT FROM messages m WHERE m.id = p_message AND m.content = p_content);
END $$;

REVOKE ALL ON FUNCTION has_text(bigint, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION has_text(bigint, text) TO chat_writer;
