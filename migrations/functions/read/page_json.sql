-- A page of rows [{key, value}]. The caller passes one row more than the limit if there is one; next_cursor is then the
-- key of the last row of the page.

CREATE FUNCTION page_json(p_name text, p_rows jsonb, p_limit bigint) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object(p_name, coalesce(
               jsonb_agg(r.value -> 'value' ORDER BY r.n) FILTER (WHERE r.n <= p_limit), '[]'))
        || CASE WHEN count(*) > p_limit
                THEN jsonb_build_object(
                    'next_cursor', (jsonb_agg(r.value -> 'key' ORDER BY r.n)) -> (p_limit::integer - 1))
                ELSE '{}' END
      FROM jsonb_array_elements(coalesce(p_rows, '[]')) WITH ORDINALITY AS r (value, n)
$$;
