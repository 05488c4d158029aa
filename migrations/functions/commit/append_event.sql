-- Adds an event to the log and to the outcome. The update of last_seq under the row lock keeps seq gapless.
-- p_live is added to the payload that subscribers receive now and is not stored: the log keeps no texts.
-- Locks: the conversation's row (UPDATE), which apply_mutations already holds.

CREATE FUNCTION append_event(
    o mutation_outcome, c conversations, p mutation, p_kind text, p_payload jsonb, p_live jsonb DEFAULT '{}')
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    v_seq bigint;
BEGIN
    UPDATE conversations SET last_seq = last_seq + 1 WHERE id = c.id RETURNING last_seq INTO STRICT v_seq;
    INSERT INTO conversation_events (conversation_id, seq, kind, actor_id, payload, mutation_id)
    VALUES (c.id, v_seq, p_kind, p.actor_id, p_payload, p.id);
    o.events := coalesce(o.events, '[]') || jsonb_build_object(
        'seq', v_seq, 'kind', p_kind, 'payload', p_payload || p_live, 'created_at', rfc3339(now()));
    o.seq := v_seq;
    RETURN o;
END $$;
