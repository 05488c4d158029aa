-- What differs between two states, as {"before": {…}, "after": {…}}; NULL if nothing does. What did not exist before
-- has no "before".

CREATE FUNCTION audit_difference(p_before jsonb, p_after jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT jsonb_build_object('before', CASE WHEN p_before <> '{}' THEN jsonb_object_agg(k, p_before -> k) END,
                              'after', jsonb_object_agg(k, p_after -> k))
      FROM (SELECT jsonb_object_keys(coalesce(p_before, '{}') || coalesce(p_after, '{}')) AS k) keys
     WHERE p_before -> k IS DISTINCT FROM p_after -> k
    HAVING count(*) > 0
$$;
