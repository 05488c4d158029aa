-- Archives a conversation or opens it again.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_archive_conversation(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    v_archived boolean := (p.arguments -> 'archived')::boolean;
BEGIN
    o.seq := c.last_seq;
    IF v_archived <> (c.archived_at IS NOT NULL) THEN
        UPDATE conversations x SET archived_at = CASE WHEN v_archived THEN now() END WHERE x.id = c.id;
        o := append_event(o, c, p, 'conversation_updated',
                          jsonb_build_object('archived', v_archived, 'actor', actor_json(p.actor_id)));
    END IF;
    o.result := jsonb_build_object('conversation', conversation_now(c.id, p.actor_id));
    RETURN o;
END $$;
