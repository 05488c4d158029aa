-- Gives an event the next seq and writes it. The update of last_seq under the row lock keeps seq gapless.
-- Locks: the conversation's row (UPDATE), which the caller already holds.

CREATE FUNCTION append_event(p_conversation bigint, p_kind text, p_actor bigint, p_mutation_id bigint, p_payload jsonb)
RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    v_seq bigint;
BEGIN
    UPDATE conversations SET last_seq = last_seq + 1 WHERE id = p_conversation RETURNING last_seq INTO STRICT v_seq;
    INSERT INTO conversation_events (conversation_id, seq, kind, actor_id, payload, mutation_id)
    VALUES (p_conversation, v_seq, p_kind, p_actor, p_payload, p_mutation_id);
    RETURN jsonb_build_object('seq', v_seq, 'kind', p_kind, 'payload', p_payload, 'created_at', rfc3339(now()));
END $$;
