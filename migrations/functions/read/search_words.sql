-- A search as a tsquery: words and "phrases" that must occur, -words that must not, and beginnings* of words, in any
-- script. Text between quotation marks is searched as it stands.
-- Long phrases are shortened (shortened_phrase). Null without a query.

CREATE FUNCTION search_words(p_query text) RETURNS tsquery LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    v_words      text := '';
    v_beginnings text;
    v_part       text;
    v_outside    boolean := true;
    v_found      tsquery;
BEGIN
    FOREACH v_part IN ARRAY string_to_array(p_query, '"') LOOP
        IF v_outside THEN
            SELECT concat_ws(' & ', v_beginnings, string_agg(quote_literal(b.beginning) || ':*', ' & '))
              INTO v_beginnings
              FROM (SELECT translate(folded(f.groups[2]), '"*''\:&|!()<>', '') AS beginning
                      FROM regexp_matches(v_part, '(^|\s)([^\s*''\\:&|!()<>-][^\s*''\\:&|!()<>]*)\*(?=\s|$)', 'g')
                           AS f (groups)) b
             WHERE b.beginning <> '';
            SELECT string_agg(CASE WHEN w.short = w.word THEN w.word
                                   ELSE repeat('-', (w.word LIKE '-%')::integer) || '"' || w.short || '"' END, ' '
                              ORDER BY w.ord)
              INTO v_part
              FROM (SELECT f.word, shortened_phrase(f.word) AS short, f.ord
                      FROM regexp_split_to_table(v_part, '\s+') WITH ORDINALITY AS f (word, ord)) w;
            -- websearch_to_tsquery gives `or` a meaning; in quotation marks it is a word like any other.
            v_part := regexp_replace(v_part, '(^|\s)[^\s-]\S*\*(?=\s|$)', ' ', 'g');
            v_words := v_words || regexp_replace(v_part, '\mor\M', '"or"', 'gi');
        ELSE
            v_words := v_words || '"' || shortened_phrase(v_part) || '"';
        END IF;
        v_outside := NOT v_outside;
    END LOOP;
    v_found := CASE WHEN v_words ~ '\S' THEN websearch_to_tsquery('public.veza', folded(v_words)) END;
    IF v_beginnings <> '' THEN
        v_found := coalesce(v_found && to_tsquery('simple', v_beginnings), to_tsquery('simple', v_beginnings));
    END IF;
    RETURN v_found;
END $$;
