-- Revokes a public link, for its maker and for moderators of the file's conversation. p_row begins its
-- audit row. Returns whether there was one.
-- Locks: the link's row, then the end of the audit trail.

CREATE FUNCTION revoke_share(p_user bigint, p_file bigint, p_share bigint, p_row jsonb) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_conversation bigint;
BEGIN
    DELETE FROM file_shares s USING files f
     WHERE s.id = p_share AND s.file_id = p_file AND f.id = s.file_id AND (s.user_id = p_user OR EXISTS (
        SELECT FROM conversation_members m
         WHERE m.conversation_id = f.conversation_id AND m.user_id = p_user AND m.role >= 'moderator'))
    RETURNING f.conversation_id INTO v_conversation;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM append_audit(jsonb_build_array(p_row || jsonb_build_object(
        'conversation_id', v_conversation, 'target_type', 'file', 'target_id', p_file,
        'details', jsonb_build_object('before', jsonb_build_object('share', p_share)))));
    RETURN true;
END $$;
