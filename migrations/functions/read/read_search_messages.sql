-- Messages that match a search, the newest first, each with the part of its text that matched, or its beginning if the
-- search has no query. A page can be short and have a next_cursor: older messages have not been compared yet
-- (app_search).

CREATE FUNCTION read_search_messages(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_limit  bigint := (p_arguments -> 'limit')::bigint;
    v_query  text := p_arguments ->> 'query';
    v_words  tsquery := search_words(v_query);
    v_marks  tsquery := highlight_words(v_words);
    -- The whole query and its first ten different words, to find the part of a text that is shown.
    v_plain  text := trim(translate(folded(v_query), '"*', ''));
    v_needles text[] := v_plain || ARRAY(
        SELECT w.word FROM regexp_split_to_table(v_plain, '[\s-]+') WITH ORDINALITY AS w (word, n)
         WHERE w.word <> '' GROUP BY w.word ORDER BY min(w.n) LIMIT 10);
    -- A search without phrases, exclusions and beginnings also finds its text inside of words, and in scripts that put
    -- no spaces between words. One Latin letter is too little for that; one Chinese character (three bytes) is not.
    v_like   text := CASE WHEN v_query !~ '["*]|(^|\s)-' AND octet_length(v_query) >= 2
        THEN '%' || replace(replace(replace(folded(v_query), '\', '\\'), '%', '\%'), '_', '\_') || '%' END;
BEGIN
    IF p_arguments ->> 'conversation' IS NOT NULL THEN
        PERFORM require_access(p_arguments);
    END IF;
    RETURN (
        WITH found AS MATERIALIZED (
            SELECT f.*, ((extract(epoch FROM f.created_at) * 1000000)::bigint)::text || '.' || f.message_id AS key
              FROM app_search(p_arguments, v_words, v_like) f)
        SELECT page_json('messages', (
            SELECT jsonb_agg(jsonb_build_object('key', f.key, 'value', message_json(s)
                       || jsonb_build_object('highlight', highlighted(s.content, v_marks, v_needles)))
                       ORDER BY f.created_at DESC, f.message_id DESC)
              FROM found f JOIN shown_messages s ON s.message_id = f.message_id AND NOT s.deleted
             WHERE f.found), v_limit)
            || coalesce((SELECT jsonb_build_object('next_cursor', f.key) FROM found f WHERE NOT f.found), '{}'));
END $$;
