-- Searching in any script, and by the right way.
--
-- Case is folded by ICU where PostgreSQL has it: in a cluster with the locale C, lower() knows ASCII only, and Cyrillic or Greek
-- words were found in the case only in which they were written. Folding comes before the text is taken apart, so that words,
-- their beginnings and parts of them agree.

DO $$
DECLARE
    v_text text := 'p_text';
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'unaccent') THEN
        v_text := format('public.unaccent(''public.unaccent'', %s)', v_text);
    END IF;
    IF EXISTS (SELECT FROM pg_collation WHERE collname = 'und-x-icu') THEN
        v_text := format('%s COLLATE "und-x-icu"', v_text);
    END IF;
    EXECUTE format('CREATE OR REPLACE FUNCTION folded(p_text text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE '
                   'AS ''SELECT lower(%s)''', replace(v_text, '''', ''''''));
END $$;

CREATE OR REPLACE FUNCTION indexed_rows(p_messages bigint[]) RETURNS void LANGUAGE sql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
    INSERT INTO message_search (message_id, conversation_id, sender_id, created_at, has_link, has_file, words, text)
    SELECT m.id, m.conversation_id, m.sender_id, m.created_at, m.content ~* '(^|\W)https?://\S', m.message_type IN ('image', 'file'),
           to_tsvector('public.veza', folded(m.content)), folded(m.content)
      FROM messages m
     WHERE m.id = ANY (p_messages) AND m.deleted_at IS NULL AND m.message_type <> 'system'
    ON CONFLICT (message_id) DO UPDATE
        SET words = excluded.words, text = excluded.text, has_link = excluded.has_link
$$;

-- Words and "phrases" that must occur, -words that must not, and beginnings* of words, of whatever letters. What stands between
-- quotation marks is taken as it stands.
CREATE OR REPLACE FUNCTION search_words(p_query text) RETURNS tsquery LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_words      text := '';
    v_beginnings text;
    v_part       text;
    v_outside    boolean := true;
    v_found      tsquery;
BEGIN
    FOREACH v_part IN ARRAY string_to_array(p_query, '"') LOOP
        IF v_outside THEN
            SELECT concat_ws(' & ', v_beginnings, string_agg(quote_literal(b.beginning) || ':*', ' & ')) INTO v_beginnings
              FROM (SELECT translate(folded(f.groups[2]), '"*''\:&|!()<>', '') AS beginning
                      FROM regexp_matches(v_part, '(^|\s)([^\s*''\\:&|!()<>-][^\s*''\\:&|!()<>]*)\*(?=\s|$)', 'g') AS f (groups)) b
             WHERE b.beginning <> '';
            -- "or" is a word as any other.
            v_words := v_words || regexp_replace(regexp_replace(v_part, '(^|\s)[^\s-]\S*\*(?=\s|$)', ' ', 'g'), '\mor\M', '"or"', 'gi');
        ELSE
            v_words := v_words || '"' || v_part || '"';
        END IF;
        v_outside := NOT v_outside;
    END LOOP;
    v_found := CASE WHEN v_words ~ '\S' THEN websearch_to_tsquery('public.veza', folded(v_words)) END;
    IF v_beginnings <> '' THEN
        v_found := coalesce(v_found && to_tsquery('simple', v_beginnings), to_tsquery('simple', v_beginnings));
    END IF;
    RETURN v_found;
END $$;

-- Everything is indexed anew, behind whatever is said meanwhile.
UPDATE search_progress SET indexed_seq = 0;

-- People are found by the beginning of their user name, or of any word of their name, without case and accents.
CREATE INDEX users_by_username_prefix ON users (lower(username) text_pattern_ops);
CREATE INDEX users_by_name ON users USING gin (to_tsvector('public.veza', folded(display_name)));
-- What somebody types for a name: words, the last of which may be a beginning, and nothing that has a meaning in a search.
CREATE FUNCTION name_words(p_query text) RETURNS tsquery LANGUAGE sql IMMUTABLE AS
    $$ SELECT search_words(regexp_replace(p_query, '["*''\\:&|!()<>-]+', ' ', 'g') || '*') $$;

-- Public rooms, without going through all conversations there are.
CREATE INDEX conversations_public ON conversations (id) WHERE kind = 'public_room' AND archived_at IS NULL;
CREATE OR REPLACE FUNCTION read_list_public_rooms(p_arguments jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT page_json('conversations', (
        SELECT jsonb_agg(jsonb_build_object('key', c.id, 'value', conversation_json(c, app_user_id())) ORDER BY c.id)
          FROM (SELECT x.* FROM conversations x
                 WHERE x.kind = 'public_room' AND x.archived_at IS NULL AND x.id > coalesce((p_arguments ->> 'cursor')::bigint, 0)
                   AND (p_arguments ->> 'query' IS NULL OR strpos(folded(x.name), folded(p_arguments ->> 'query')) > 0)
                 ORDER BY x.id LIMIT (p_arguments -> 'limit')::bigint + 1) c), (p_arguments -> 'limit')::bigint)
$$;
