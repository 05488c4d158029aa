-- The part of a text that matched, with marks around each match. Marks that the text itself contains are removed first.
-- ts_headline takes seconds for a long phrase in a long text. So it receives 400 characters around the first of
-- p_needles that occurs in the beginning of the text, and p_marks: single words, any of which it marks
-- (highlight_words).

CREATE FUNCTION highlighted(p_content text, p_marks tsquery, p_needles text[]) RETURNS text
LANGUAGE plpgsql STABLE AS $$
DECLARE
    c_searched CONSTANT integer := 20000;
    c_shown    CONSTANT integer := 400;
    v_text   text := translate(left(p_content, c_searched), U&'\E000\E001', '');
    v_folded text;
    v_needle text;
    v_at     integer;
BEGIN
    IF length(v_text) > c_shown THEN
        v_folded := folded(v_text);
        -- They are ordered from the whole query to its single words.
        FOREACH v_needle IN ARRAY p_needles LOOP
            v_at := strpos(v_folded, v_needle);
            EXIT WHEN v_at > 0;
        END LOOP;
        -- Folding can make a text longer (ß becomes ss), so the same characters of the text begin earlier.
        v_at := coalesce(v_at, 1);
        v_at := v_at - (length(folded(left(v_text, v_at))) - v_at);
        v_text := substr(v_text, greatest(v_at - 100, 1), c_shown);
    END IF;
    RETURN coalesce(ts_headline('public.veza', v_text, p_marks,
            format('StartSel=%s, StopSel=%s, MaxWords=40, MinWords=15, ShortWord=0', U&'\E000', U&'\E001')),
        left(v_text, 200));
END $$;
