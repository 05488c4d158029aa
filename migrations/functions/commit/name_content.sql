-- Content that is about to be stored belongs to a file that is being checked: as what its readers get, or as a variant.
-- p: {file_id, sha256 (hex), size, and for a variant kind, media_type, width, height}. Returns the number that the
-- content has in the store; null if the file is gone.
-- Locks: the content's row in blobs, then the file's row.

CREATE FUNCTION name_content(p jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_hash bytea := decode(p ->> 'sha256', 'hex');
    v_file bigint := (p -> 'file_id')::bigint;
    v_number bigint;
BEGIN
    -- Even without a conflict this locks the row, so that release_content waits and sees what needs it.
    INSERT INTO blobs AS b (sha256, size) VALUES (v_hash, (p -> 'size')::bigint)
    ON CONFLICT (sha256) DO UPDATE SET created_at = b.created_at RETURNING b.number INTO STRICT v_number;
    PERFORM FROM files f WHERE f.id = v_file AND f.state = 'scanning' FOR UPDATE;
    IF NOT FOUND THEN
        -- Perhaps no file needs the content then.
        PERFORM plan_release(v_hash);
        RETURN NULL;
    ELSIF p ->> 'kind' IS NULL THEN
        -- An earlier check may have been cut short, with another result.
        PERFORM plan_release(f.sha256) FROM files f WHERE f.id = v_file AND f.sha256 <> v_hash;
        UPDATE files f SET sha256 = v_hash WHERE f.id = v_file;
    ELSE
        PERFORM plan_release(x.sha256) FROM file_variants x
          WHERE x.file_id = v_file AND x.kind = p ->> 'kind' AND x.sha256 <> v_hash;
        DELETE FROM file_variants x WHERE x.file_id = v_file AND x.kind = p ->> 'kind';
        INSERT INTO file_variants (file_id, kind, sha256, size, media_type, width, height)
        VALUES (v_file, p ->> 'kind', v_hash, (p -> 'size')::bigint, p ->> 'media_type', (p ->> 'width')::integer,
                (p ->> 'height')::integer);
    END IF;
    RETURN v_number;
END $$;
