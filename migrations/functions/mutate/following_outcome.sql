-- The outcome of a mutation of the actor's thread: the state for the acknowledgement, and the same for the actor's
-- other connections.
-- Locks: none.

CREATE FUNCTION following_outcome(p_root bigint, p_actor bigint) RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
BEGIN
    o.result := following_json(p_root, p_actor);
    o.notices := jsonb_build_array(jsonb_build_object('users', ARRAY[p_actor], 'kind', 'thread_follow_updated',
                                                      'payload', o.result));
    RETURN o;
END $$;
