-- The part of a text that matched, with marks around each match. Marks that the text itself contains are removed first.
-- ts_headline takes seconds for a long phrase in a long text. So it receives 1,000 characters around the first place
-- where one of p_needles occurs, and p_marks: single words, any of which it marks (highlight_words).

CREATE FUNCTION highlighted(p_content text, p_marks tsquery, p_needles text[]) RETURNS text LANGUAGE sql STABLE AS $$
    WITH plain AS (SELECT translate(p_content, U&'\E000\E001', '') AS content),
    place AS (
        SELECT p.content, CASE WHEN length(p.content) <= 1000 THEN 1 ELSE coalesce((
                   -- The first needle that is found: they are ordered from the whole query to its single words.
                   SELECT greatest(strpos(folded(p.content), n.needle) - 200, 1)
                     FROM unnest(p_needles) WITH ORDINALITY AS n (needle, ord)
                    WHERE n.needle <> '' AND strpos(folded(p.content), n.needle) > 0
                    ORDER BY n.ord LIMIT 1), 1) END AS start
          FROM plain p)
    SELECT coalesce(ts_headline('public.veza', substr(p.content, p.start, 1000), p_marks,
               format('StartSel=%s, StopSel=%s, MaxWords=40, MinWords=15, ShortWord=0', U&'\E000', U&'\E001')),
           substr(p.content, p.start, 200))
      FROM place p
$$;
