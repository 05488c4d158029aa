-- Removes a person from a part of a conversation's log, the entries after p_after up to p_to: from the payloads of
-- events, from system messages, and from earlier texts of others. What must be an event of its own is only found here,
-- and the caller submits it: texts that mention the person, and the person's reactions [{message_id, emoji}].
-- It can be repeated. It needs the rights of the owner, in a transaction with app.data_rights and app.rules.
-- Locks: the rows.

CREATE FUNCTION erase_log(p_user bigint, p_conversation bigint, p_after bigint, p_to bigint)
RETURNS TABLE (mentions bigint[], reactions jsonb, changed bigint) LANGUAGE plpgsql AS $$
DECLARE
    v_old   text;
    v_count bigint;
BEGIN
    SELECT e.username INTO v_old FROM erasures e WHERE e.user_id = p_user;
    PERFORM set_config('app.erasing', 'on', true);
    -- Without a join of the table with itself: after it has waited for another erasure, it sees what that one wrote.
    UPDATE conversation_events x SET payload = without_person(x.payload, p_user)
     WHERE x.conversation_id = p_conversation AND x.seq > p_after AND x.seq <= p_to
       AND strpos(x.payload::text, '"id": ' || p_user) > 0 AND x.payload <> without_person(x.payload, p_user);
    GET DIAGNOSTICS changed = ROW_COUNT;
    UPDATE messages x SET system = without_person(x.system, p_user),
           content = system_text(without_person(x.system, p_user))
     WHERE x.conversation_id = p_conversation AND x.seq > p_after AND x.seq <= p_to AND x.message_type = 'system'
       AND strpos(x.system::text, '"id": ' || p_user) > 0 AND x.system <> without_person(x.system, p_user);
    GET DIAGNOSTICS v_count = ROW_COUNT;
    changed := changed + v_count;
    IF v_old IS NOT NULL THEN
        UPDATE message_edits x SET content = without_name(x.content, v_old, p_user)
          FROM messages m
         WHERE m.conversation_id = p_conversation AND m.seq > p_after AND m.seq <= p_to
           AND m.edited_at IS NOT NULL AND x.message_id = m.id AND x.content <> without_name(x.content, v_old, p_user);
        GET DIAGNOSTICS v_count = ROW_COUNT;
        changed := changed + v_count;
    END IF;
    PERFORM set_config('app.erasing', '', true);
    SELECT coalesce(array_agg(m.id ORDER BY m.seq), '{}') INTO mentions FROM messages m
     WHERE m.conversation_id = p_conversation AND m.seq > p_after AND m.seq <= p_to
       AND m.message_type <> 'system' AND m.deleted_at IS NULL AND m.sender_id <> p_user
       AND m.content <> without_name(m.content, v_old, p_user);
    SELECT coalesce(jsonb_agg(jsonb_build_object('message_id', x.message_id, 'emoji', x.emoji)), '[]') INTO reactions
      FROM messages m JOIN message_reactions x ON x.message_id = m.id AND x.user_id = p_user
     WHERE m.conversation_id = p_conversation AND m.seq > p_after AND m.seq <= p_to;
    RETURN NEXT;
END $$;
