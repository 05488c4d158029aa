-- A text with the mentions of a name replaced. The same characters as in mentioned_names begin and end a name, but code
-- counts too: it names the person as well. A name has no character that means something in a regular expression.
-- needs: erased_name

CREATE FUNCTION without_name(p_text text, p_name text, p_user bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN strpos(p_text, '@') = 0 THEN p_text
                ELSE regexp_replace(p_text, '(^|[^A-Za-z0-9_@.-])@' || p_name || '(?![A-Za-z0-9_-])',
                                    '\1@' || erased_name(p_user), 'gi') END
$$;
