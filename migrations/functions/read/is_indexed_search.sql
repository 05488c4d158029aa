-- Whether the inverted indexes can find the matches of a search. They cannot find what is only excluded. PostgreSQL
-- collects all words with a given beginning before its timeout of a statement has any effect, so beginnings must be
-- long and few. The trigram index needs three letters in a row, and the extension.

CREATE FUNCTION is_indexed_search(p_words tsquery, p_like text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT coalesce(querytree(p_words), '') NOT IN ('', 'T')
       AND p_words::text !~ '''.{1,2}'':\*'
       AND (SELECT count(*) FROM regexp_matches(p_words::text, ''':\*', 'g')) <= 3
       AND (p_like IS NULL
            OR (p_like ~ '[[:alnum:]]{3}' AND to_regclass('public.message_search_by_text') IS NOT NULL))
$$;
