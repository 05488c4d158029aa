-- Messages that match, in no order, p_most at most. The settings leave the planner only the two inverted indexes,
-- whatever it estimates.
-- SECURITY DEFINER: as app_search, which is its only caller.

CREATE FUNCTION matching_messages(p_words tsquery, p_like text, p_most bigint) RETURNS SETOF message_search
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 2000 SET search_path FROM CURRENT
SET plan_cache_mode = force_custom_plan SET enable_seqscan = off SET enable_indexscan = off
SET enable_bitmapscan = on AS $$
BEGIN
    IF p_like IS NULL THEN
        RETURN QUERY SELECT x.* FROM message_search x WHERE x.words @@ p_words LIMIT p_most;
    ELSE
        RETURN QUERY SELECT x.* FROM message_search x WHERE x.words @@ p_words OR x.text LIKE p_like LIMIT p_most;
    END IF;
END $$;

REVOKE ALL ON FUNCTION matching_messages(tsquery, text, bigint) FROM PUBLIC;
