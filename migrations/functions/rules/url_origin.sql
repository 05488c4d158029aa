-- Scheme, host and port of a URL. Its path and query can hold secrets of the receiver.

CREATE FUNCTION url_origin(p_url text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT substring(p_url FROM '^[a-z]+://[^/?#]+')
$$;
