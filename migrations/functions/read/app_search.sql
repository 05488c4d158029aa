-- The messages that match a search, the newest first.
-- SECURITY DEFINER: the operators of a text search are not leakproof, so under row level security PostgreSQL would not
-- use the index and read everything. Each statement therefore restricts itself to the user's conversations first. The
-- texts are read under the user's row level security afterwards.
-- No single plan suits every query. A common word has all its matches fetched and sorted by the word index; a rare one
-- has all messages read by the time index. So three are tried, and each is bounded or certain:
-- 1. the newest messages of the place: all of a small one, and enough for a common word. Long messages take longer to
--    compare, so their bytes are bounded as well as their number;
-- 2. all matches, if they are few;
-- 3. from the newest message on, until a page is full.

CREATE FUNCTION app_search(p_arguments jsonb, p_words tsquery, p_like text)
RETURNS TABLE (message_id bigint, created_at timestamptz) LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path FROM CURRENT SET enable_bitmapscan = on AS $$
#variable_conflict use_column
DECLARE
    -- Tests set smaller numbers for their database.
    c_newest CONSTANT bigint := coalesce(nullif(current_setting('app.search_newest', true), '')::bigint, 5000);
    c_bytes  CONSTANT bigint := coalesce(nullif(current_setting('app.search_bytes', true), '')::bigint, 2000000);
    c_most   CONSTANT bigint := coalesce(nullif(current_setting('app.search_most', true), '')::bigint, 2000);
    c_order  CONSTANT text := ' ORDER BY x.created_at DESC, x.message_id DESC LIMIT ';
    v_room   bigint := (p_arguments -> 'conversation')::bigint;
    v_rooms  bigint[] := ARRAY(SELECT app_conversations());
    v_sender bigint := (p_arguments -> 'from_user_id')::bigint;
    v_before timestamptz := coalesce((p_arguments ->> 'before')::timestamptz, 'infinity');
    v_after  timestamptz := coalesce((p_arguments ->> 'after')::timestamptz, '-infinity');
    v_cursor_at timestamptz :=
        coalesce(to_timestamp(0) + (p_arguments -> 'cursor_us')::bigint * interval '1 microsecond', 'infinity');
    v_cursor_id bigint := coalesce((p_arguments -> 'cursor_id')::bigint, 9007199254740991);
    v_limit  bigint := (p_arguments -> 'limit')::bigint + 1;
    -- Only the conditions of this search, planned with their values: no generic plan suits all searches.
    v_where text := CASE WHEN v_room IS NULL THEN 'x.conversation_id = ANY ($1)' ELSE 'x.conversation_id = $2' END
        || ' AND x.created_at < $4 AND x.created_at > $5'
        || CASE WHEN p_arguments ? 'cursor_us' THEN ' AND (x.created_at, x.message_id) < ($6, $7)' ELSE '' END
        || CASE WHEN v_sender IS NOT NULL THEN ' AND x.sender_id = $3' ELSE '' END
        || CASE p_arguments ->> 'has' WHEN 'link' THEN ' AND x.has_link' WHEN 'file' THEN ' AND x.has_file' ELSE '' END;
    v_match text := CASE WHEN p_like IS NULL THEN 'x.words @@ $8' ELSE '(x.words @@ $8 OR x.text LIKE $9)' END;
    v_newest bigint;
    v_older  boolean;
    v_ids   bigint[];
    v_times timestamptz[];
    v_seen  bigint;
BEGIN
    IF v_room IS NOT NULL AND NOT v_room = ANY (v_rooms) THEN
        RETURN;
    END IF;
    -- The size of a text is known without reading it (TOAST). The first message counts whatever its size.
    EXECUTE format('SELECT greatest(count(*) FILTER (WHERE x.bytes <= $11), 1), count(*)
          FROM (SELECT sum(x.bytes) OVER (ORDER BY x.created_at DESC, x.message_id DESC
                                          ROWS UNBOUNDED PRECEDING) AS bytes
                  FROM (SELECT x.created_at, x.message_id, octet_length(x.text) AS bytes
                          FROM message_search x WHERE %s %s $10) x) x', v_where, c_order)
       INTO v_newest, v_seen
      USING v_rooms, v_room, v_sender, v_before, v_after, v_cursor_at, v_cursor_id, p_words, p_like, c_newest, c_bytes;
    v_older := v_seen > v_newest OR v_seen = c_newest;
    EXECUTE format('SELECT count(*),
            array_agg(x.message_id ORDER BY x.created_at DESC, x.message_id DESC) FILTER (WHERE %1$s),
            array_agg(x.created_at ORDER BY x.created_at DESC, x.message_id DESC) FILTER (WHERE %1$s)
          FROM (SELECT x.* FROM message_search x WHERE %2$s %3$s $10) x', v_match, v_where, c_order)
       INTO v_seen, v_ids, v_times
      USING v_rooms, v_room, v_sender, v_before, v_after, v_cursor_at, v_cursor_id, p_words, p_like, v_newest;
    IF v_older AND coalesce(cardinality(v_ids), 0) < v_limit THEN
        v_seen := NULL;
        -- The trigram index needs three letters in a row, and the extension.
        IF p_like IS NULL
           OR (p_like ~ '[[:alnum:]]{3}' AND to_regclass('public.message_search_by_text') IS NOT NULL) THEN
            EXECUTE format('WITH found AS MATERIALIZED (SELECT * FROM matching_messages($8, $9, $10 + 1))
                SELECT (SELECT count(*) FROM found), array_agg(x.message_id), array_agg(x.created_at)
                  FROM (SELECT x.message_id, x.created_at FROM found x WHERE %s %s $11) x', v_where, c_order)
               INTO v_seen, v_ids, v_times
              USING v_rooms, v_room, v_sender, v_before, v_after, v_cursor_at, v_cursor_id, p_words, p_like, c_most,
                    v_limit;
        END IF;
        IF v_seen IS NULL OR v_seen > c_most THEN
            EXECUTE format('SELECT array_agg(x.message_id), array_agg(x.created_at)
                  FROM (SELECT x.message_id, x.created_at FROM message_search x WHERE %s AND %s %s $10) x',
                           v_where, v_match, c_order)
               INTO v_ids, v_times
              USING v_rooms, v_room, v_sender, v_before, v_after, v_cursor_at, v_cursor_id, p_words, p_like, v_limit;
        END IF;
    END IF;
    RETURN QUERY SELECT f.id, f.at FROM unnest(v_ids, v_times) AS f (id, at) LIMIT v_limit;
END $$;

REVOKE ALL ON FUNCTION app_search(jsonb, tsquery, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app_search(jsonb, tsquery, text) TO chat_app;
