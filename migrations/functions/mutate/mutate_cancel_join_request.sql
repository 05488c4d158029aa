-- Withdraws the actor's request to join.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_cancel_join_request(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
BEGIN
    IF m.user_id IS NULL AND c.kind <> 'public_room' AND NOT EXISTS (
            SELECT FROM conversation_join_requests x WHERE x.conversation_id = c.id AND x.user_id = p.actor_id) THEN
        PERFORM refuse_outsider(c);
    END IF;
    o := close_request(o, c, p.actor_id, p.actor_id, 'cancelled');
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'requested', false);
    RETURN o;
END $$;
