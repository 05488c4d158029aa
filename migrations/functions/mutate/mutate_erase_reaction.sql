-- Removes a reaction of an erased person, who need not be a member any longer.
-- Locks: as change_reaction.

CREATE FUNCTION mutate_erase_reaction(c conversations, m conversation_members, p mutation) RETURNS mutation_outcome
LANGUAGE sql AS $$ SELECT change_reaction(c, p, false) $$;
