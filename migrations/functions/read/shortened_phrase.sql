-- The first eight words of a phrase; words that hyphens and the like join count one by one. Comparing a phrase with a
-- text takes time for each of its words. In what is left, spaces separate the words: a part of a compound word is no
-- compound of the text.

CREATE FUNCTION shortened_phrase(p_text text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN p_text ~ '[[:alnum:]]+(?:[^[:alnum:]]+[[:alnum:]]+){8}'
                THEN regexp_replace(substring(p_text FROM '[[:alnum:]]+(?:[^[:alnum:]]+[[:alnum:]]+){7}'),
                                    '[^[:alnum:]]+', ' ', 'g')
                ELSE p_text END
$$;
