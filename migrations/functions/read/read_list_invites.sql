-- Invitations of a conversation, the newest first. For moderators.

CREATE FUNCTION read_list_invites(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_conversation bigint := require_moderator(p_arguments);
BEGIN
    RETURN jsonb_build_object('invites', (
        SELECT coalesce(jsonb_agg(invite_json(i) ORDER BY i.created_at DESC, i.code), '[]')
          FROM conversation_invites i WHERE i.conversation_id = v_conversation));
END $$;
