-- Full text search. Words are found without case and accents, whatever the language; prefixes, phrases and exclusions by
-- PostgreSQL's tsquery; substrings, and scripts that do not put spaces between words, by trigrams.
--
-- The index is written after the messages, by a task of the I/O shard (storage/indexer.rs): analysing a text costs more
-- than committing it, and nobody should wait for that. search_progress says how far each conversation's log is indexed;
-- whatever is behind is found at the next start. A deletion takes a text out of the index in its own transaction.
--
-- Both extensions come with PostgreSQL's contrib modules. Without unaccent accents count; without pg_trgm a search finds
-- whole words and beginnings of words only.

DO $$
BEGIN
    CREATE TEXT SEARCH CONFIGURATION veza (COPY = simple);
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'unaccent') THEN
        CREATE EXTENSION IF NOT EXISTS unaccent SCHEMA public;
        ALTER TEXT SEARCH CONFIGURATION veza ALTER MAPPING FOR
            asciiword, word, hword, hword_part, hword_asciipart, asciihword, numword, numhword, hword_numpart WITH unaccent, simple;
        CREATE FUNCTION folded(p_text text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
            AS 'SELECT lower(public.unaccent(''public.unaccent'', p_text))';
    ELSE
        CREATE FUNCTION folded(p_text text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT lower(p_text)';
    END IF;
END $$;

CREATE TABLE message_search (
    message_id      bigint      PRIMARY KEY,
    conversation_id bigint      NOT NULL,
    sender_id       bigint      NOT NULL,
    created_at      timestamptz NOT NULL,
    has_link        boolean     NOT NULL,
    has_file        boolean     NOT NULL,
    words           tsvector    NOT NULL,
    text            text        NOT NULL
);
CREATE INDEX message_search_by_words ON message_search USING gin (words);
CREATE INDEX message_search_by_place ON message_search (conversation_id, created_at, message_id);
CREATE INDEX message_search_by_sender ON message_search (sender_id, created_at, message_id);
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm') THEN
        CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA public;
        CREATE INDEX message_search_by_text ON message_search USING gin (text gin_trgm_ops);
    END IF;
END $$;

-- No foreign key: it would lock the conversation for as long as its messages are being indexed.
CREATE TABLE search_progress (
    conversation_id bigint PRIMARY KEY,
    indexed_seq     bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 70);

ALTER TABLE message_search ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE search_progress ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY app_reads ON message_search FOR SELECT TO chat_app USING (conversation_id IN (SELECT app_conversations()));
GRANT SELECT ON message_search TO chat_app;
-- The functions below run as the owner: the writer, who may not read what people wrote, has no other way to index it.
CREATE POLICY owner_indexes ON message_search TO chat_owner USING (true) WITH CHECK (true);
CREATE POLICY owner_indexes ON search_progress TO chat_owner USING (true) WITH CHECK (true);
CREATE POLICY owner_indexes ON messages FOR SELECT TO chat_owner USING (true);

CREATE FUNCTION indexed_rows(p_messages bigint[]) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO message_search (message_id, conversation_id, sender_id, created_at, has_link, has_file, words, text)
    SELECT m.id, m.conversation_id, m.sender_id, m.created_at, m.content ~* '(^|\W)https?://\S', m.message_type IN ('image', 'file'),
           to_tsvector('public.veza', m.content), folded(m.content)
      FROM messages m
     WHERE m.id = ANY (p_messages) AND m.deleted_at IS NULL AND m.message_type <> 'system'
    ON CONFLICT (message_id) DO UPDATE
        SET words = excluded.words, text = excluded.text, has_link = excluded.has_link
$$;

-- Indexes the next messages of a conversation, at most so many; whether it has more.
CREATE FUNCTION index_messages(p_conversation bigint, p_limit bigint) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_from bigint := locked_progress(p_conversation, true);
    v_head bigint;
    v_last bigint;
    v_ids  bigint[];
BEGIN
    -- Numbers are given in the order of their commits: up to the head that is seen here, the next look sees everything.
    SELECT c.last_seq INTO v_head FROM conversations c WHERE c.id = p_conversation;
    IF NOT FOUND OR v_head <= v_from THEN
        RETURN false;
    END IF;
    SELECT array_agg(m.id), max(m.seq) INTO v_ids, v_last
      FROM (SELECT x.id, x.seq FROM messages x
             WHERE x.conversation_id = p_conversation AND x.seq > v_from AND x.seq <= v_head
             ORDER BY x.seq LIMIT p_limit) m;
    PERFORM indexed_rows(v_ids);
    IF cardinality(v_ids) = p_limit THEN
        UPDATE search_progress p SET indexed_seq = v_last WHERE p.conversation_id = p_conversation;
        RETURN true;
    END IF;
    UPDATE search_progress p SET indexed_seq = v_head WHERE p.conversation_id = p_conversation;
    RETURN false;
END $$;

-- The mark, held until the transaction ends: by the one who indexes, or shared by those who change what is indexed. So an
-- edit and the indexing of the same message never pass each other unseen.
CREATE FUNCTION locked_progress(p_conversation bigint, p_alone boolean) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_seq bigint;
BEGIN
    INSERT INTO search_progress (conversation_id) SELECT c.id FROM conversations c WHERE c.id = p_conversation
    ON CONFLICT DO NOTHING;
    IF p_alone THEN
        SELECT p.indexed_seq INTO v_seq FROM search_progress p WHERE p.conversation_id = p_conversation FOR UPDATE;
    ELSE
        SELECT p.indexed_seq INTO v_seq FROM search_progress p WHERE p.conversation_id = p_conversation FOR SHARE;
    END IF;
    RETURN v_seq;
END $$;

-- Conversations whose log is ahead of their index: looked for once, at the start.
CREATE FUNCTION unindexed_conversations(p_after bigint, p_limit bigint) RETURNS bigint[] LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT array_agg(x.id ORDER BY x.id) FROM (
        SELECT c.id FROM conversations c LEFT JOIN search_progress p ON p.conversation_id = c.id
         WHERE c.id > p_after AND c.last_seq > coalesce(p.indexed_seq, 0) ORDER BY c.id LIMIT p_limit) x
$$;

CREATE FUNCTION reindex_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    n record;
BEGIN
    FOR n IN SELECT x.id, x.conversation_id, x.seq, x.deleted_at FROM new_messages x ORDER BY x.conversation_id LOOP
        IF n.seq <= locked_progress(n.conversation_id, false) AND n.deleted_at IS NULL THEN
            PERFORM indexed_rows(ARRAY[n.id]);
        ELSE
            DELETE FROM message_search s WHERE s.message_id = n.id;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER reindex_changed AFTER UPDATE ON messages
    REFERENCING NEW TABLE AS new_messages FOR EACH STATEMENT EXECUTE FUNCTION reindex_changed();

REVOKE ALL ON FUNCTION indexed_rows(bigint[]), index_messages(bigint, bigint), locked_progress(bigint, boolean),
    unindexed_conversations(bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION index_messages(bigint, bigint), unindexed_conversations(bigint, bigint) TO chat_writer;

-- What somebody typed as a tsquery: words and "phrases" that must occur, -words that must not, and beginnings* of words.
CREATE FUNCTION search_words(p_query text) RETURNS tsquery LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    -- "or" is a word as any other.
    v_rest  text := regexp_replace(regexp_replace(p_query, '(^|\s)[^\s"-]\S*\*(?=\s|$)', ' ', 'g'), '\mor\M', '"or"', 'gi');
    v_words tsquery := CASE WHEN v_rest ~ '\S' THEN websearch_to_tsquery('public.veza', v_rest) END;
    v_beginnings tsquery := (
        SELECT to_tsquery('simple', string_agg(quote_literal(b.beginning) || ':*', ' & '))
          FROM (SELECT regexp_replace(folded(f.groups[2]), '[^[:alnum:]_]', '', 'g') AS beginning
                  FROM regexp_matches(p_query, '(^|\s)([^\s"*''\\:&|!()<>-][^\s"*''\\:&|!()<>]*)\*(?=\s|$)', 'g') AS f (groups)) b
         WHERE b.beginning <> '');
BEGIN
    RETURN coalesce(v_words && v_beginnings, v_words, v_beginnings);
END $$;

-- The messages that match, newest first. As the owner, who asks the index directly: under row level security the operators
-- of a text search may not be given to an index, since they are not leakproof, and everything would be read. What the
-- reader may see is therefore the first condition here, and the texts are read under their row level security afterwards.
CREATE FUNCTION app_search(p_arguments jsonb, p_words tsquery, p_like text)
RETURNS TABLE (message_id bigint, created_at timestamptz) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
    SELECT x.message_id, x.created_at FROM message_search x
     WHERE x.conversation_id = ANY (CASE
               WHEN p_arguments ->> 'conversation' IS NULL THEN ARRAY(SELECT app_conversations())
               ELSE ARRAY(SELECT c FROM app_conversations() c WHERE c = (p_arguments -> 'conversation')::bigint) END)
       AND (x.words @@ p_words OR x.text LIKE p_like)
       AND (p_arguments ->> 'from_user_id' IS NULL OR x.sender_id = (p_arguments -> 'from_user_id')::bigint)
       AND (p_arguments ->> 'has' IS DISTINCT FROM 'link' OR x.has_link)
       AND (p_arguments ->> 'has' IS DISTINCT FROM 'file' OR x.has_file)
       AND x.created_at < coalesce((p_arguments ->> 'before')::timestamptz, 'infinity')
       AND x.created_at > coalesce((p_arguments ->> 'after')::timestamptz, '-infinity')
       AND (x.created_at, x.message_id) < (
           coalesce(to_timestamp(0) + (p_arguments -> 'cursor_us')::bigint * interval '1 microsecond', 'infinity'),
           coalesce((p_arguments -> 'cursor_id')::bigint, 9007199254740991))
     ORDER BY x.created_at DESC, x.message_id DESC LIMIT (p_arguments -> 'limit')::bigint + 1
$$;
REVOKE ALL ON FUNCTION app_search(jsonb, tsquery, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app_search(jsonb, tsquery, text) TO chat_app;

CREATE FUNCTION read_search_messages(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_limit  bigint := (p_arguments -> 'limit')::bigint;
    v_query  text := p_arguments ->> 'query';
    v_words  tsquery := search_words(v_query);
    -- What is no phrase, exclusion or beginning is looked for as it stands, too: inside of words, and in scripts that put no
    -- spaces between them.
    v_like   text := CASE WHEN v_query !~ '["*]|(^|\s)-' AND char_length(v_query) >= 2
        THEN '%' || replace(replace(replace(folded(v_query), '\', '\\'), '%', '\%'), '_', '\_') || '%' END;
BEGIN
    IF p_arguments ->> 'conversation' IS NOT NULL THEN
        PERFORM require_access(p_arguments);
    END IF;
    RETURN page_json('messages', (
        SELECT jsonb_agg(jsonb_build_object(
                   'key', ((extract(epoch FROM s.created_at) * 1000000)::bigint)::text || '.' || s.message_id,
                   'value', message_json(m) || jsonb_build_object('highlight', highlighted(m.content, v_words)))
                   ORDER BY s.created_at DESC, s.message_id DESC)
          FROM app_search(p_arguments, v_words, v_like) s
          JOIN messages m ON m.id = s.message_id AND m.deleted_at IS NULL), v_limit);
END $$;

-- Marks of the text's own are taken out: only what was found stands between two of them.
CREATE FUNCTION highlighted(p_content text, p_words tsquery) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce(ts_headline('public.veza', translate(p_content, U&'\E000\E001', ''), p_words,
               format('StartSel=%s, StopSel=%s, MaxWords=40, MinWords=15, ShortWord=0', U&'\E000', U&'\E001')),
           left(translate(p_content, U&'\E000\E001', ''), 200))
$$;
