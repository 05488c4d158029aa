-- The names after an @ that begins a word, outside of `code` and ```blocks```. The character before the @ must not be
-- part of a word, so an e-mail address is not a mention.

CREATE FUNCTION mentioned_names(p_content text) RETURNS TABLE (name text) LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT DISTINCT lower(found.groups[1])
      FROM regexp_matches(regexp_replace(regexp_replace(p_content, '```.*?```', ' ', 'g'), '`[^`]*`', ' ', 'g'),
                          '(?:^|[^A-Za-z0-9_@.-])@([A-Za-z0-9_-]{3,50})', 'g') AS found (groups)
$$;
