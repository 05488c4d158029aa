-- What a search marks in the texts that it finds: the first ten different words of the query, each on its own. Marking
-- whole phrases would mark the same words and cost many times more.

CREATE FUNCTION highlight_words(p_words tsquery) RETURNS tsquery LANGUAGE sql IMMUTABLE AS $$
    SELECT string_agg(w.word, ' | ' ORDER BY w.first)::tsquery
      FROM (SELECT f.groups[1] AS word, min(f.ord) AS first
              -- querytree leaves out what must not occur.
              FROM regexp_matches(querytree(p_words), '(''(?:[^'']|'''')*''(?::\*)?)', 'g') WITH ORDINALITY
                   AS f (groups, ord)
             GROUP BY f.groups[1] ORDER BY first LIMIT 10) w
$$;
