-- Adds a reaction.
-- Locks: as change_reaction.

CREATE FUNCTION mutate_add_reaction(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE sql AS
    $$ SELECT change_reaction(p_conversation, p_actor, p_mutation_id, p_arguments, true) $$;
