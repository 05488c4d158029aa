-- Archives a conversation or opens it again.
-- Locks: the conversation's row (locked_conversation).

CREATE FUNCTION mutate_archive_conversation(
    p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := ruling_member(c, p_actor, 'owner');
    v_archived boolean := (p_arguments -> 'archived')::boolean;
BEGIN
    o.conversation_id := c.id;
    IF v_archived <> (c.archived_at IS NOT NULL) THEN
        UPDATE conversations x SET archived_at = CASE WHEN v_archived THEN now() END WHERE x.id = c.id;
        o.events := jsonb_build_array(append_event(c.id, 'conversation_updated', p_actor, p_mutation_id,
            jsonb_build_object('archived', v_archived, 'actor', actor_json(p_actor))));
    END IF;
    o.result := jsonb_build_object('conversation', conversation_now(c.id, p_actor),
                                   'seq', coalesce(o.events -> 0 -> 'seq', to_jsonb(c.last_seq)));
    RETURN o;
END $$;
