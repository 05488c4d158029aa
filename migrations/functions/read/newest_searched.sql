-- The matches among the newest messages of a search's conversations: p_most messages are compared, and only as many as
-- have p_bytes of text together, but at least one. Every message that is read counts, also one that the sender or a
-- filter rules out. So the cost is bounded whatever is searched for.
-- A user of many of the server's messages has the newest messages of the server compared. Otherwise each conversation
-- gives a share that grows with its size. All shares are half as many messages, because merging them costs as much as
-- comparing. Where a share ends, older messages of that conversation are missing, so nothing older than the newest such
-- end is compared.
-- Every source is read in the order of its index, until it has enough: a bitmap scan would read all of it first.
-- A search without a query (only filters, of which one is for files) reads no text, so no bytes count.
-- SECURITY DEFINER: as app_search, which is its only caller.

CREATE FUNCTION newest_searched(p_arguments jsonb, p_words tsquery, p_like text, p_rooms bigint[], p_most bigint,
                                p_bytes bigint)
RETURNS searched LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT
SET enable_bitmapscan = off AS $$
DECLARE
    c_order  CONSTANT text := 'ORDER BY x.created_at DESC, x.message_id DESC';
    v_size   bigint;
    v_all    real;
    v_where  record;
    v_source text;
    v_stopped boolean;
    v_found  searched;
BEGIN
    SELECT sum(c.last_ordinal) INTO v_size FROM conversations c WHERE c.id = ANY (p_rooms);
    SELECT sum(r.reltuples) INTO v_all -- an estimate
      FROM pg_inherits i JOIN pg_class r ON r.oid = i.inhrelid WHERE i.inhparent = 'message_search'::regclass;
    SELECT * INTO v_where FROM search_conditions(p_arguments);
    v_source := CASE
        WHEN v_where.sender IS NOT NULL AND v_size > p_most THEN
            format('SELECT x.*, false AS more FROM message_search x WHERE x.sender_id = $2 AND %s %s LIMIT $9',
                   v_where.period, c_order)
        WHEN cardinality(p_rooms) = 1 THEN
            format('SELECT x.*, false AS more FROM message_search x
                     WHERE x.conversation_id = ($1)[1] AND %s %s LIMIT $9', v_where.period, c_order)
        WHEN v_size >= v_all / 4 THEN
            format('SELECT x.*, false AS more FROM message_search x WHERE %s %s LIMIT $9', v_where.period, c_order)
        ELSE
            format('WITH given AS MATERIALIZED (
                        SELECT x.*, s.share, row_number() OVER (PARTITION BY x.conversation_id %2$s) AS place
                          FROM (SELECT c.id, 1 + $9 / 4 / cardinality($1) + $9 * c.last_ordinal / 4 / greatest($11, 1)
                                       AS share
                                  FROM conversations c WHERE c.id = ANY ($1)) s
                         CROSS JOIN LATERAL (SELECT * FROM message_search x
                                              WHERE x.conversation_id = s.id AND %1$s %2$s LIMIT s.share) x),
                    ended AS (SELECT x.created_at, x.message_id FROM given x WHERE x.place = x.share %2$s LIMIT 1)
                    SELECT x.*, EXISTS (SELECT FROM ended) AS more FROM given x
                     WHERE coalesce((x.created_at, x.message_id) >= (SELECT e.created_at, e.message_id FROM ended e),
                                    true) %2$s',
                   v_where.period, c_order)
        END;
    -- The search ends at a message of the user's own conversations, if there is one, so that a cursor tells nothing of
    -- others. Everything after the source keeps its order, so nothing is sorted again. The size of a text is known
    -- without reading it (TOAST). CASE keeps PostgreSQL from comparing texts in vain.
    EXECUTE format('
        SELECT coalesce(array_agg(x.message_id) FILTER (WHERE x.hit), ''{}''),
               coalesce(array_agg(x.created_at) FILTER (WHERE x.hit), ''{}''),
               coalesce((array_agg(x.message_id) FILTER (WHERE x.within AND x.own))
                            [count(*) FILTER (WHERE x.within AND x.own)],
                        (array_agg(x.message_id) FILTER (WHERE x.within))[count(*) FILTER (WHERE x.within)]),
               coalesce(min(x.created_at) FILTER (WHERE x.within AND x.own),
                        min(x.created_at) FILTER (WHERE x.within)),
               count(*) = $9 OR coalesce(bool_or(x.more OR NOT x.within), false)
          FROM (SELECT x.message_id, x.created_at, x.more, x.within, x.conversation_id = ANY ($1) AS own,
                       CASE WHEN x.within AND %1$s THEN %2$s ELSE false END AS hit
                  FROM (SELECT x.*, sum(octet_length(x.text)) OVER (ROWS UNBOUNDED PRECEDING) - octet_length(x.text)
                                    < $10 AS within
                          FROM (%3$s) x OFFSET 0) x OFFSET 0) x',
        v_where.others,
        CASE WHEN NOT p_arguments ? 'query' THEN 'true' WHEN p_like IS NULL THEN 'x.words @@ $7'
             ELSE '(x.words @@ $7 OR x.text LIKE $8)' END,
        v_source)
      INTO v_found.ids, v_found.times, v_found.stopped_id, v_found.stopped_at, v_stopped
     USING p_rooms, v_where.sender, v_where.before, v_where.after, v_where.cursor_at, v_where.cursor_id, p_words,
           p_like, p_most, p_bytes, v_size;
    IF NOT v_stopped THEN
        v_found.stopped_id := NULL;
    END IF;
    RETURN v_found;
END $$;

REVOKE ALL ON FUNCTION newest_searched(jsonb, tsquery, text, bigint[], bigint, bigint) FROM PUBLIC;
