-- What a search costs, measured over a million messages (loadtest pages; docs/performance.md).

-- The newest messages first, whatever place it is.
CREATE INDEX message_search_by_time ON message_search (created_at, message_id);

-- The messages that match, at most so many, in no order: by the two inverted indexes alone, whatever the planner believes of
-- the words.
CREATE FUNCTION matching_messages(p_words tsquery, p_like text, p_most bigint) RETURNS SETOF message_search
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 2000 SET search_path = public, pg_temp
SET plan_cache_mode = force_custom_plan SET enable_seqscan = off SET enable_indexscan = off SET enable_bitmapscan = on AS $$
BEGIN
    IF p_like IS NULL THEN
        RETURN QUERY SELECT x.* FROM message_search x WHERE x.words @@ p_words LIMIT p_most;
    ELSE
        RETURN QUERY SELECT x.* FROM message_search x WHERE x.words @@ p_words OR x.text LIKE p_like LIMIT p_most;
    END IF;
END $$;
REVOKE ALL ON FUNCTION matching_messages(tsquery, text, bigint) FROM PUBLIC;

-- As the owner, who asks the index directly: under row level security the operators of a text search may not be given to an
-- index, since they are not leakproof, and everything would be read. What the reader may see is therefore the first condition
-- of every statement here, and the texts are read under their row level security afterwards.
--
-- No one way is right for every question: a word that occurs everywhere has all its places fetched and sorted by way of the
-- words, one that occurs nowhere has all messages looked at by way of the time. So three are tried, each bounded or sure:
-- 1. the newest messages of the place: all of a small one, and enough for a common word;
-- 2. everything that matches, if that is little;
-- 3. from the newest on, until there is a page.
CREATE OR REPLACE FUNCTION app_search(p_arguments jsonb, p_words tsquery, p_like text)
RETURNS TABLE (message_id bigint, created_at timestamptz) LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = public, pg_temp SET enable_bitmapscan = on AS $$
#variable_conflict use_column
DECLARE
    -- Settings of a database for the sake of tests, where there are not so many.
    c_newest CONSTANT bigint := coalesce(nullif(current_setting('app.search_newest', true), '')::bigint, 5000);
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
    -- Only the conditions that there are, and their values with them: a plan that fits all questions fits none.
    v_where text := CASE WHEN v_room IS NULL THEN 'x.conversation_id = ANY ($1)' ELSE 'x.conversation_id = $2' END
        || ' AND x.created_at < $4 AND x.created_at > $5'
        || CASE WHEN p_arguments ? 'cursor_us' THEN ' AND (x.created_at, x.message_id) < ($6, $7)' ELSE '' END
        || CASE WHEN v_sender IS NOT NULL THEN ' AND x.sender_id = $3' ELSE '' END
        || CASE p_arguments ->> 'has' WHEN 'link' THEN ' AND x.has_link' WHEN 'file' THEN ' AND x.has_file' ELSE '' END;
    v_match text := CASE WHEN p_like IS NULL THEN 'x.words @@ $8' ELSE '(x.words @@ $8 OR x.text LIKE $9)' END;
    v_ids   bigint[];
    v_times timestamptz[];
    v_seen  bigint;
BEGIN
    IF v_room IS NOT NULL AND NOT v_room = ANY (v_rooms) THEN
        RETURN;
    END IF;
    EXECUTE format('SELECT count(*), array_agg(x.message_id ORDER BY x.created_at DESC, x.message_id DESC) FILTER (WHERE %1$s),
            array_agg(x.created_at ORDER BY x.created_at DESC, x.message_id DESC) FILTER (WHERE %1$s)
          FROM (SELECT x.* FROM message_search x WHERE %2$s %3$s $10) x', v_match, v_where, c_order)
       INTO v_seen, v_ids, v_times
      USING v_rooms, v_room, v_sender, v_before, v_after, v_cursor_at, v_cursor_id, p_words, p_like, c_newest;
    IF v_seen = c_newest AND coalesce(cardinality(v_ids), 0) < v_limit THEN
        v_seen := NULL;
        -- Without three letters in a row there is nothing to look up in the trigrams, nor without those.
        IF p_like IS NULL OR (p_like ~ '[[:alnum:]]{3}' AND to_regclass('public.message_search_by_text') IS NOT NULL) THEN
            EXECUTE format('WITH found AS MATERIALIZED (SELECT * FROM matching_messages($8, $9, $10 + 1))
                SELECT (SELECT count(*) FROM found), array_agg(x.message_id), array_agg(x.created_at)
                  FROM (SELECT x.message_id, x.created_at FROM found x WHERE %s %s $11) x', v_where, c_order)
               INTO v_seen, v_ids, v_times
              USING v_rooms, v_room, v_sender, v_before, v_after, v_cursor_at, v_cursor_id, p_words, p_like, c_most, v_limit;
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

CREATE OR REPLACE FUNCTION read_search_messages(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_limit  bigint := (p_arguments -> 'limit')::bigint;
    v_query  text := p_arguments ->> 'query';
    v_words  tsquery := search_words(v_query);
    -- What is no phrase, exclusion or beginning is looked for as it stands, too: inside of words, and in scripts that put no
    -- spaces between them; a letter of Latin alone is too little for that, one of Chinese is not.
    v_like   text := CASE WHEN v_query !~ '["*]|(^|\s)-' AND octet_length(v_query) >= 2
        THEN '%' || replace(replace(replace(folded(v_query), '\', '\\'), '%', '\%'), '_', '\_') || '%' END;
BEGIN
    IF p_arguments ->> 'conversation' IS NOT NULL THEN
        PERFORM require_access(p_arguments);
    END IF;
    RETURN page_json('messages', (
        SELECT jsonb_agg(jsonb_build_object(
                   'key', ((extract(epoch FROM f.created_at) * 1000000)::bigint)::text || '.' || f.message_id,
                   'value', s.json || jsonb_build_object('highlight', highlighted(s.content, v_words)))
                   ORDER BY f.created_at DESC, f.message_id DESC)
          FROM app_search(p_arguments, v_words, v_like) f
          JOIN shown_messages s ON s.id = f.message_id AND s.json ->> 'deleted' = 'false'), v_limit);
END $$;
