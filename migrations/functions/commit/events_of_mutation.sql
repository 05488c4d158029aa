-- The events that an earlier submission of the same mutation wrote, or NULL.

CREATE FUNCTION events_of_mutation(p_mutation_id bigint) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_agg(jsonb_build_object('seq', seq, 'kind', kind, 'payload', payload, 'created_at', rfc3339(created_at))
                     ORDER BY seq)
      FROM conversation_events WHERE mutation_id = p_mutation_id
$$;
