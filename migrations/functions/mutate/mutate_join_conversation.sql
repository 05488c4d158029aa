-- Joins a public room. A member who joins again receives the first result.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_join_conversation(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
BEGIN
    IF m.user_id IS NULL AND c.kind <> 'public_room' THEN
        PERFORM refuse_outsider(c);
    END IF;
    o := admit_member(c, p, p.actor_id, p.actor_id);
    o.result := jsonb_build_object('conversation', conversation_now(c.id, p.actor_id));
    RETURN o;
END $$;
