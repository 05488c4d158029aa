-- The bot that a slash command is for. The user must be allowed to send. `name@bot` addresses one bot; otherwise it is
-- the bot that joined first among those with a command of this name.

CREATE FUNCTION read_run_command(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_conversation bigint := require_sending(p_arguments);
    v_name text := lower(split_part(p_arguments ->> 'command', '@', 1));
    v_bot  text := nullif(lower(split_part(p_arguments ->> 'command', '@', 2)), '');
    r record;
BEGIN
    IF p_arguments ->> 'parent_message_id' IS NOT NULL AND NOT EXISTS (
        SELECT FROM messages x WHERE x.id = (p_arguments -> 'parent_message_id')::bigint
           AND x.conversation_id = v_conversation AND x.deleted_at IS NULL) THEN
        PERFORM refuse('not_found', 'data.parent_message_id: There is no such message in this conversation.');
    END IF;
    SELECT k.bot_id, k.name, k.has_url INTO r
      FROM bot_commands k
      JOIN conversation_members m ON m.conversation_id = v_conversation AND m.user_id = k.bot_id
      JOIN users u ON u.id = k.bot_id AND u.is_active
      JOIN bots b ON b.user_id = k.bot_id
      JOIN users o ON o.id = b.owner_id AND o.is_active
     WHERE k.name = v_name AND (v_bot IS NULL OR lower(u.username) = v_bot)
     ORDER BY m.joined_seq, m.user_id LIMIT 1;
    IF NOT FOUND THEN
        PERFORM refuse('not_found', format('data.command: No bot here has a command /%s.', v_name));
    ELSIF NOT app_may_see(r.bot_id) THEN
        PERFORM refuse('blocked', 'You have blocked this bot. Unblock it to use its commands.');
    END IF;
    RETURN jsonb_build_object('bot_id', r.bot_id, 'command', r.name, 'has_url', r.has_url,
                              'user', actor_json(app_user_id()));
END $$;
