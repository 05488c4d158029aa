-- Counts what the files of each user take, and of all users together (user 0). A file whose content is gone takes
-- nothing. Also plans the removal of content that no file needs any longer.
-- Locks: the users' rows of file_usage, in the order of their ids; then rows of jobs.

CREATE FUNCTION count_files() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_had boolean := TG_OP <> 'INSERT' AND has_content(OLD);
    v_has boolean := TG_OP <> 'DELETE' AND has_content(NEW);
    v_bytes bigint := CASE WHEN v_has THEN NEW.size + NEW.extra ELSE 0 END
                    - CASE WHEN v_had THEN OLD.size + OLD.extra ELSE 0 END;
    v_files integer := v_has::integer - v_had::integer;
BEGIN
    IF v_bytes <> 0 OR v_files <> 0 THEN
        INSERT INTO file_usage AS u (user_id, bytes, files)
        SELECT x, v_bytes, v_files FROM unnest(ARRAY[0, coalesce(NEW.uploader_id, OLD.uploader_id)]) x
        ON CONFLICT (user_id) DO UPDATE SET bytes = u.bytes + excluded.bytes, files = u.files + excluded.files;
    END IF;
    IF TG_OP = 'DELETE' THEN
        DELETE FROM file_shares s WHERE s.file_id = OLD.id;
    END IF;
    IF v_had AND NOT v_has THEN
        INSERT INTO jobs (kind, subject) VALUES ('remove_upload', OLD.id::text) ON CONFLICT DO NOTHING;
        IF OLD.sha256 IS NOT NULL THEN
            PERFORM plan_release(OLD.sha256);
        END IF;
        PERFORM plan_release(v.sha256) FROM file_variants v WHERE v.file_id = OLD.id ORDER BY v.sha256;
        DELETE FROM file_variants v WHERE v.file_id = OLD.id;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER count_files_{set} AFTER INSERT OR DELETE OR UPDATE OF state, size, extra ON files FOR EACH ROW
    WHEN (current_setting('app.rules', true) = '{set}') EXECUTE FUNCTION count_files();
