-- Withdraws the actor's request to join. For a room that the actor is not a member of, the answer and the notice to the
-- actor's other connections are the same whether or not it exists and has the request (mutate_request_to_join.sql).
-- Locks: the conversation's row, which apply_mutations holds; the user's row of toggle_budgets.

CREATE FUNCTION mutate_cancel_join_request(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
BEGIN
    IF m.user_id IS NULL AND p.conversation_id & 3 <> 2 THEN
        PERFORM refuse_outsider(c);
    END IF;
    PERFORM charge_toggle(p.actor_id);
    o.conversation_id := p.conversation_id;
    DELETE FROM unheard_requests x WHERE x.user_id = p.actor_id AND x.conversation_id = p.conversation_id;
    o := close_request(o, c, p.actor_id, p.actor_id, 'cancelled');
    o.notices := coalesce(o.notices, jsonb_build_array(jsonb_build_object(
        'kind', 'join_request_decided', 'users', ARRAY[p.actor_id], 'payload', jsonb_build_object(
            'user', actor_json(p.actor_id), 'outcome', 'cancelled', 'actor', actor_json(p.actor_id)))));
    o.result := jsonb_build_object('conversation_id', conversation_text_id(p.conversation_id), 'requested', false);
    RETURN o;
END $$;
