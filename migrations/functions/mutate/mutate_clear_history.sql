-- Begins a conversation's history behind p.arguments.to_seq: retention has decided so. Everything before counts as
-- read. A job removes the rows (remove_cleared). A conversation that a legal hold keeps stays as it is.
-- Locks: the conversation's row, which apply_mutations holds; then those of its members.

CREATE FUNCTION mutate_clear_history(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    v_to bigint := least((p.arguments -> 'to_seq')::bigint, c.last_seq);
BEGIN
    o.result := '{}';
    IF v_to <= c.cleared_seq OR is_on_hold(c.id) THEN
        RETURN o;
    END IF;
    UPDATE conversations x SET cleared_seq = v_to WHERE x.id = c.id;
    UPDATE conversation_members x SET read_seq = v_to WHERE x.conversation_id = c.id AND x.read_seq < v_to;
    o := append_event(o, c, p, 'conversation_updated', jsonb_build_object(
        'cleared_seq', v_to, 'actor', actor_json(p.actor_id)));
    o.seq := NULL;
    RETURN o;
END $$;
