-- A text with a name after an @ replaced: more than mentioned_names finds, since code and `.@name` name the person as
-- well. `x@name` is an address. A name has no character that means something in a regular expression.
-- needs: erased_name

CREATE FUNCTION without_name(p_text text, p_name text, p_user bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN strpos(p_text, '@') = 0 THEN p_text
                ELSE regexp_replace(p_text, '(^|[^A-Za-z0-9_])@' || p_name || '(?![A-Za-z0-9_-])',
                                    '\1@' || erased_name(p_user), 'gi') END
$$;
