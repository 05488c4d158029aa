-- The messages that match a search, the newest first. A row with `found` false is the last one that was compared: older
-- messages have not been compared, and the next page begins there.
-- SECURITY DEFINER: the operators of a text search are not leakproof, so under row level security PostgreSQL would not
-- use the index and read everything. Each statement therefore restricts itself to the user's conversations first. The
-- texts are read under the user's row level security afterwards.
-- No single plan suits every query. A common word has all its matches fetched and sorted by the word index; a rare one
-- has all messages read by the time index. So three are tried:
-- 1. the newest messages of the place: all of a small one, and enough for a common word;
-- 2. all matches, if they are few;
-- 3. more of the newest messages.
-- 1 and 3 are bounded by the number and the bytes of the messages that they compare (newest_searched). How long the
-- index takes for 2 is not known before, so the server limits its time and then searches without it: `by_index` false.
-- A search without a query, for messages with files, has all of them as matches: a few of the newest are enough, unless
-- other filters rule them out. Then 3 follows.

CREATE FUNCTION app_search(p_arguments jsonb, p_words tsquery, p_like text)
RETURNS TABLE (message_id bigint, created_at timestamptz, found boolean) LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path FROM CURRENT SET enable_bitmapscan = on SET work_mem = '16MB' AS $$
#variable_conflict use_column
DECLARE
    -- Tests set smaller numbers for their database. Numbers of messages, and bytes of their texts.
    c_newest CONSTANT bigint := coalesce(nullif(current_setting('app.search_newest', true), '')::bigint, 5000);
    c_bytes  CONSTANT bigint := coalesce(nullif(current_setting('app.search_bytes', true), '')::bigint, 1000000);
    c_most   CONSTANT bigint := coalesce(nullif(current_setting('app.search_most', true), '')::bigint, 2000);
    c_scan   CONSTANT bigint := coalesce(nullif(current_setting('app.search_scan', true), '')::bigint, 20000);
    c_scan_bytes CONSTANT bigint :=
        coalesce(nullif(current_setting('app.search_scan_bytes', true), '')::bigint, 4000000);
    c_all_bytes CONSTANT bigint := 9223372036854775807;
    v_rooms    bigint[] := ARRAY(SELECT app_conversations());
    v_room     bigint := (p_arguments -> 'conversation')::bigint;
    v_limit    bigint := (p_arguments -> 'limit')::bigint + 1;
    v_by_index boolean := coalesce((p_arguments -> 'by_index')::boolean, true)
        AND is_indexed_search(p_words, p_like);
    v_is_list  boolean := NOT p_arguments ? 'query';
    v_last     boolean := NOT v_by_index AND NOT v_is_list;
    v_compared searched;
    v_matches  searched;
BEGIN
    v_rooms := ARRAY(SELECT r FROM unnest(v_rooms) AS r WHERE v_room IS NULL OR r = v_room);
    IF cardinality(v_rooms) = 0 THEN
        RETURN;
    END IF;
    LOOP
        v_compared := newest_searched(p_arguments, p_words, p_like, v_rooms,
            CASE WHEN v_last THEN c_scan WHEN v_is_list THEN least(4 * v_limit, c_newest) ELSE c_newest END,
            CASE WHEN v_is_list THEN c_all_bytes WHEN v_last THEN c_scan_bytes ELSE c_bytes END);
        EXIT WHEN v_last OR v_compared.stopped_id IS NULL OR cardinality(v_compared.ids) >= v_limit;
        IF v_by_index THEN
            v_matches := indexed_searched(p_arguments, p_words, p_like, v_rooms, c_most);
            IF v_matches.ids IS NOT NULL THEN
                v_compared := v_matches;
                EXIT;
            END IF;
        END IF;
        v_last := true;
    END LOOP;
    RETURN QUERY SELECT f.id, f.at, true FROM unnest(v_compared.ids, v_compared.times) AS f (id, at) LIMIT v_limit;
    IF v_compared.stopped_id IS NOT NULL AND cardinality(v_compared.ids) < v_limit THEN
        RETURN QUERY SELECT v_compared.stopped_id, v_compared.stopped_at, false;
    END IF;
END $$;

REVOKE ALL ON FUNCTION app_search(jsonb, tsquery, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app_search(jsonb, tsquery, text) TO chat_app;
