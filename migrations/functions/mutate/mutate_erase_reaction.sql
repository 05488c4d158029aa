-- Removes a reaction of an erased person, who need not be a member any longer.
-- Locks: as change_reaction; then the row of erasures.

CREATE FUNCTION mutate_erase_reaction(c conversations, m conversation_members, p mutation) RETURNS mutation_outcome
LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome := change_reaction(c, p, false);
BEGIN
    PERFORM count_erased(p.actor_id, 'reactions', coalesce(jsonb_array_length(o.events), 0));
    RETURN o;
END $$;
