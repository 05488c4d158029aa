-- The bytes that hashes of the audit trail cover: each field as `LENGTH:TEXT` with its length in bytes, or `-` for
-- NULL. So two different lists of fields never give the same bytes. Rows that exist keep their hashes: this can only
-- change together with its first field, the version.

CREATE FUNCTION audit_canonical(VARIADIC p_fields text[]) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT convert_to(string_agg(coalesce(octet_length(x) || ':' || x, '-'), '' ORDER BY n), 'UTF8')
      FROM unnest(p_fields) WITH ORDINALITY AS f (x, n)
$$;
