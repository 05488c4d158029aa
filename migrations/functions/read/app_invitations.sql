-- The user's open invitations: not those of senders who have left, or between whom and the user there is a block.
-- SECURITY DEFINER: row level security hides a conversation from users who are not members.

CREATE FUNCTION app_invitations()
RETURNS TABLE (conversation_id bigint, kind conversation_kind, name text, description text, invited_by bigint,
               created_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT c.id, c.kind, c.name, c.description, i.invited_by, i.created_at
      FROM conversation_invitations i JOIN conversations c ON c.id = i.conversation_id
     WHERE i.user_id = app_user_id() AND c.archived_at IS NULL AND NOT is_blocked(i.user_id, i.invited_by)
       AND EXISTS (SELECT FROM conversation_members m
                    WHERE m.conversation_id = i.conversation_id AND m.user_id = i.invited_by)
$$;

REVOKE ALL ON FUNCTION app_invitations() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app_invitations() TO chat_app;
