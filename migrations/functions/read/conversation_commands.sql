-- The slash commands that a member can run in a conversation: those of the bots that are members. Refuses outsiders.

CREATE FUNCTION conversation_commands(p_user bigint, p_conversation bigint) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    c conversations;
BEGIN
    SELECT * INTO c FROM conversations x WHERE x.id = p_conversation;
    IF NOT EXISTS (SELECT FROM conversation_members m WHERE m.conversation_id = p_conversation AND m.user_id = p_user)
    THEN
        PERFORM refuse_outsider(c);
    END IF;
    RETURN jsonb_build_object('commands', coalesce((
        SELECT jsonb_agg(jsonb_build_object('name', k.name, 'description', k.description, 'usage', k.usage,
                                            'bot', user_json(u)) ORDER BY k.name, m.joined_seq)
          FROM conversation_members m JOIN bot_commands k ON k.bot_id = m.user_id
          JOIN users u ON u.id = m.user_id AND u.is_active
         WHERE m.conversation_id = p_conversation), '[]'));
END $$;
