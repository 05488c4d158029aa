-- Whether the user may read a conversation: 'member', 'not_member' of a public room, or 'not_found', which says nothing
-- about whether a private one exists.
-- SECURITY DEFINER: row level security hides a conversation from users who are not members.

CREATE FUNCTION app_access(p_conversation bigint) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path FROM CURRENT AS
    $$ SELECT CASE
           WHEN EXISTS (SELECT FROM conversation_members
                         WHERE conversation_id = p_conversation AND user_id = app_user_id()) THEN 'member'
           WHEN EXISTS (SELECT FROM conversations WHERE id = p_conversation AND kind = 'public_room') THEN 'not_member'
           ELSE 'not_found' END $$;

REVOKE ALL ON FUNCTION app_access(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app_access(bigint) TO chat_app;
