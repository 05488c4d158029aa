-- Adds a system message to the log and to the outcome: who joined, left, or was added or removed, and by whom.
-- The content is for clients that do not know the kind. The others build their own sentence from `system`.
-- The payload has only the fields that a new message can differ in; MessageRecord (src/mesh/record.rs) adds the rest.
-- Locks: the conversation's row (UPDATE), which apply_mutations already holds.

CREATE FUNCTION append_system_message(
    o mutation_outcome, c conversations, p_kind text, p_user bigint, p_by bigint)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    v_id      bigint := nextval('message_ids');
    v_seq     bigint;
    v_ordinal bigint;
    v_user    jsonb := actor_json(p_user);
    v_by      jsonb := actor_json(p_by);
    v_system  jsonb := jsonb_build_object(
        'kind', p_kind, 'user', v_user, 'actor', CASE WHEN p_by <> p_user THEN v_by END);
    v_content text := system_text(v_system);
BEGIN
    UPDATE conversations SET last_seq = last_seq + 1 WHERE id = c.id
    RETURNING last_seq, last_ordinal INTO STRICT v_seq, v_ordinal;
    INSERT INTO messages (id, conversation_id, seq, ordinal, sender_id, message_type, content, system)
    VALUES (v_id, c.id, v_seq, v_ordinal, p_by, 'system', v_content, v_system);
    o.events := coalesce(o.events, '[]') || jsonb_build_object(
        'seq', v_seq, 'kind', 'message_created', 'created_at', rfc3339(now()), 'payload', jsonb_build_object(
            'message_id', v_id, 'sender', v_by, 'content', v_content, 'message_type', 'system', 'system', v_system));
    o.seq := v_seq;
    RETURN o;
END $$;
