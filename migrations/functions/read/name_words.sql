-- A search for a user's name as a tsquery: words, the last of which may be a beginning. Characters with a meaning in a
-- search are removed.

CREATE FUNCTION name_words(p_query text) RETURNS tsquery LANGUAGE sql IMMUTABLE AS
    $$ SELECT search_words(regexp_replace(p_query, '["*''\\:&|!()<>-]+', ' ', 'g') || '*') $$;
