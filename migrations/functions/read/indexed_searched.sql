-- All matches of a search, found by the inverted indexes. Without ids if there are more than p_most of them, in all
-- conversations and at all times: then the search goes another way.
-- SECURITY DEFINER: as app_search, which is its only caller.

CREATE FUNCTION indexed_searched(p_arguments jsonb, p_words tsquery, p_like text, p_rooms bigint[], p_most bigint)
RETURNS searched LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    c_order CONSTANT text := 'ORDER BY x.created_at DESC, x.message_id DESC';
    v_where record;
    v_seen  bigint;
    v_found searched;
BEGIN
    SELECT * INTO v_where FROM search_conditions(p_arguments);
    EXECUTE format('
        WITH found AS MATERIALIZED (SELECT * FROM matching_messages($7, $8, $9 + 1))
        SELECT (SELECT count(*) FROM found), coalesce(array_agg(x.message_id %1$s), ''{}''),
               coalesce(array_agg(x.created_at %1$s), ''{}'')
          FROM found x WHERE %2$s AND %3$s', c_order, v_where.period, v_where.others)
      INTO v_seen, v_found.ids, v_found.times
     USING p_rooms, v_where.sender, v_where.before, v_where.after, v_where.cursor_at, v_where.cursor_id, p_words,
           p_like, p_most;
    IF v_seen > p_most THEN
        RETURN NULL;
    END IF;
    RETURN v_found;
END $$;

REVOKE ALL ON FUNCTION indexed_searched(jsonb, tsquery, text, bigint[], bigint) FROM PUBLIC;
