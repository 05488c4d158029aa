-- Counts what the files of each user take, and of all users together (user 0). A file whose content is gone takes nothing.
-- Also plans the removal of content that no file needs any longer.
-- Locks: the users' rows of file_usage, in the order of their ids.

CREATE FUNCTION count_files() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_before boolean := TG_OP <> 'INSERT' AND has_content(OLD);
    v_after boolean := TG_OP <> 'DELETE' AND has_content(NEW);
    v_change integer := v_after::integer - v_before::integer;
BEGIN
    IF v_change <> 0 THEN
        INSERT INTO file_usage AS u (user_id, bytes, files)
        SELECT x, v_change * coalesce(NEW.size, OLD.size), v_change
          FROM unnest(ARRAY[0, coalesce(NEW.uploader_id, OLD.uploader_id)]) x
        ON CONFLICT (user_id) DO UPDATE SET bytes = u.bytes + excluded.bytes, files = u.files + excluded.files;
    END IF;
    IF v_change < 0 THEN
        INSERT INTO jobs (kind, subject) VALUES ('remove_upload', OLD.id::text) ON CONFLICT DO NOTHING;
        IF OLD.sha256 IS NOT NULL THEN
            INSERT INTO jobs (kind, subject) VALUES ('remove_blob', encode(OLD.sha256, 'hex'))
            ON CONFLICT (kind, subject) DO UPDATE SET next_at = now();
        END IF;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER count_files_{set} AFTER INSERT OR DELETE OR UPDATE OF state ON files FOR EACH ROW
    WHEN (current_setting('app.rules', true) = '{set}') EXECUTE FUNCTION count_files();
