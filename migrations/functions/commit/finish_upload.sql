-- All bytes of an upload are durable, p_size of them. Its content is checked next. Returns whether it was unfinished.
-- Locks: the file's row, then those of file_usage.

CREATE FUNCTION finish_upload(p_file bigint, p_size bigint, p_kept_s bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE files f SET state = 'scanning', size = p_size, received = p_size,
           expires_at = now() + make_interval(secs => p_kept_s)
     WHERE f.id = p_file AND f.state = 'uploading';
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO jobs (kind, subject, owner_id)
    SELECT 'check_file', f.id::text, f.uploader_id FROM files f WHERE f.id = p_file ON CONFLICT DO NOTHING;
    RETURN true;
END $$;
