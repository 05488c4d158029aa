-- The file of a public link that is valid, if its maker may read the file now.

CREATE FUNCTION shared_file(p_token_hash bytea) RETURNS SETOF files LANGUAGE sql STABLE AS $$
    SELECT f.* FROM file_shares s CROSS JOIN LATERAL readable_file(s.user_id, s.file_id) f
     WHERE s.token_hash = p_token_hash AND s.expires_at > now() AND f.state = 'ready'
$$;
