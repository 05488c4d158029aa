-- Removes the actor's reaction.
-- Locks: as change_reaction.

CREATE FUNCTION mutate_remove_reaction(c conversations, m conversation_members, p mutation) RETURNS mutation_outcome
LANGUAGE sql AS $$ SELECT change_reaction(c, p, false) $$;
