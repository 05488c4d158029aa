-- The few functions that live in `public` and not in a rule set (migrations/functions). PostgreSQL forces each of them
-- here: a policy, an index or a table's own trigger binds to one function, whatever set the session runs with. A change
-- needs a new table migration, so nothing is here that can be elsewhere.

-- The user whose rights apply. The policies call it.
-- After COMMIT a setting of SET LOCAL reads as '' and not as NULL; both mean "no user".
CREATE FUNCTION app_user_id() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS
    $$ SELECT nullif(current_setting('app.user_id', true), '')::bigint $$;

-- The conversations of that user. The policies call it.
-- SECURITY DEFINER: a policy on conversation_members that reads conversation_members would recurse.
CREATE FUNCTION app_conversations() RETURNS SETOF bigint LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = public, pg_temp AS
    $$ SELECT conversation_id FROM conversation_members WHERE user_id = app_user_id() $$;
REVOKE ALL ON FUNCTION app_conversations() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app_conversations() TO chat_app;

-- Those of them that the user moderates. The policies call it.
-- SECURITY DEFINER for the same reason.
CREATE FUNCTION app_moderated() RETURNS SETOF bigint LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = public, pg_temp AS
    $$ SELECT conversation_id FROM conversation_members WHERE user_id = app_user_id() AND role >= 'moderator' $$;
REVOKE ALL ON FUNCTION app_moderated() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app_moderated() TO chat_app;

-- folded(): a text without case and accents. An index on users calls it, and message_search stores what it returns.
-- Both extensions of the search come with PostgreSQL's contrib modules. Without unaccent, accents count. Case is folded
-- by ICU where PostgreSQL has it: with the locale C, lower() knows ASCII only. Folding comes before the text is split,
-- so that words, their beginnings and parts of them agree.
DO $$
DECLARE
    v_text text := 'p_text';
BEGIN
    CREATE TEXT SEARCH CONFIGURATION veza (COPY = simple);
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'unaccent') THEN
        CREATE EXTENSION IF NOT EXISTS unaccent SCHEMA public;
        ALTER TEXT SEARCH CONFIGURATION veza ALTER MAPPING FOR
            asciiword, word, hword, hword_part, hword_asciipart, asciihword, numword, numhword, hword_numpart
            WITH unaccent, simple;
        v_text := format('public.unaccent(''public.unaccent'', %s)', v_text);
    END IF;
    IF EXISTS (SELECT FROM pg_collation WHERE collname = 'und-x-icu') THEN
        v_text := format('%s COLLATE "und-x-icu"', v_text);
    END IF;
    EXECUTE format('CREATE FUNCTION folded(p_text text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE '
                   'AS ''SELECT lower(%s)''', replace(v_text, '''', ''''''));
END $$;

-- Refuses a change of a table whose triggers belong to the rule sets, in a session without an installed set: no trigger
-- would count, index or check it. Each set's own triggers fire for the sessions of that set only.
CREATE FUNCTION refuse_without_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = format('table %s can only be changed in a session with an installed rule set', TG_TABLE_NAME),
        HINT = 'Choose a name from the table rule_sets, then: SET app.rules = ''rules_…''; '
               'SET search_path = rules_…, public, pg_temp;';
END $$;
CREATE TRIGGER refuse_without_rules BEFORE INSERT OR UPDATE OR DELETE ON messages FOR EACH STATEMENT
    WHEN (to_regnamespace(nullif(current_setting('app.rules', true), '')) IS NULL)
    EXECUTE FUNCTION refuse_without_rules();
CREATE TRIGGER refuse_without_rules BEFORE INSERT OR UPDATE OR DELETE ON conversation_members FOR EACH STATEMENT
    WHEN (to_regnamespace(nullif(current_setting('app.rules', true), '')) IS NULL)
    EXECUTE FUNCTION refuse_without_rules();
