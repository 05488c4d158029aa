-- The part of a text that matched, with marks around each match. Marks that the text itself contains are removed first.

CREATE FUNCTION highlighted(p_content text, p_words tsquery) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce(ts_headline('public.veza', translate(p_content, U&'\E000\E001', ''), p_words,
               format('StartSel=%s, StopSel=%s, MaxWords=40, MinWords=15, ShortWord=0', U&'\E000', U&'\E001')),
           left(translate(p_content, U&'\E000\E001', ''), 200))
$$;
