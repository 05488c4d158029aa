-- Appends a system message: who joined, left, or was added or removed, and by whom.
-- The content is for clients that do not know the kind. The others build their own sentence from `system`.
-- Locks: the conversation's row (UPDATE), which the caller already holds.

CREATE FUNCTION system_message(c conversations, p_kind text, p_user bigint, p_actor bigint) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v_id     bigint := nextval('message_ids');
    v_seq    bigint;
    v_user   jsonb := actor_json(p_user);
    v_actor  jsonb := actor_json(p_actor);
    v_system jsonb := jsonb_build_object('kind', p_kind, 'user', v_user,
        'actor', CASE WHEN p_actor <> p_user THEN v_actor END);
    v_content text := CASE WHEN p_actor = p_user THEN format('%s %s', v_user ->> 'display_name', p_kind)
                           ELSE format('%s %s %s', v_actor ->> 'display_name', p_kind, v_user ->> 'display_name') END;
BEGIN
    UPDATE conversations SET last_seq = last_seq + 1 WHERE id = c.id RETURNING last_seq INTO STRICT v_seq;
    INSERT INTO messages (id, conversation_id, seq, sender_id, message_type, content, system)
    VALUES (v_id, c.id, v_seq, p_actor, 'system', v_content, v_system);
    RETURN jsonb_build_object(
        'seq', v_seq, 'kind', 'message_created', 'created_at', rfc3339(now()), 'payload', jsonb_build_object(
            'message_id', v_id, 'sender', v_actor, 'content', v_content, 'message_type', 'system', 'system', v_system,
            'parent_message_id', NULL, 'mentions', '[]'::jsonb, 'reactions', '[]'::jsonb, 'pinned', false,
            'edited_at', NULL, 'deleted', false, 'attachments', '[]'::jsonb));
END $$;
