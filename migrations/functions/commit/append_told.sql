-- Appends an event and returns it with p_now added to its payload. p_stored is written; p_now is what only live
-- subscribers receive, such as a text that the log does not repeat.
-- Locks: as append_event.

CREATE FUNCTION append_told(
    c conversations, p_kind text, p_actor bigint, p_mutation_id bigint, p_stored jsonb, p_now jsonb)
RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    v_event jsonb := append_event(c.id, p_kind, p_actor, p_mutation_id, p_stored);
BEGIN
    RETURN jsonb_set(v_event, '{payload}', v_event -> 'payload' || p_now);
END $$;
