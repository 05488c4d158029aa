-- Counts by name, with further ones added to them.

CREATE FUNCTION added_counts(p_counts jsonb, p_more jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(jsonb_object_agg(x.key, x.n), '{}')
      FROM (SELECT key, sum(value::bigint) AS n
              FROM (SELECT * FROM jsonb_each_text(p_counts) UNION ALL SELECT * FROM jsonb_each_text(p_more)) c
             GROUP BY key) x
$$;
