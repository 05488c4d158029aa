-- Declines an invitation. Its sender is not notified.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_decline_invitation(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
BEGIN
    o := close_invitation(o, c, p.actor_id);
    IF o.notices IS NULL AND m.user_id IS NULL THEN
        PERFORM refuse_outsider(c);
    END IF;
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id));
    RETURN o;
END $$;
