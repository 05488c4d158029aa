-- A user has another picture, or none: the uploaded one goes, and its content with it.
-- Locks: the picture's row, then a job's row.

CREATE FUNCTION drop_avatar() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_hash bytea;
BEGIN
    DELETE FROM user_avatars a WHERE a.user_id = NEW.id AND a.url IS DISTINCT FROM NEW.avatar_url
    RETURNING a.sha256 INTO v_hash;
    IF FOUND THEN
        PERFORM plan_release(v_hash);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER drop_avatar_{set} AFTER UPDATE OF avatar_url ON users FOR EACH ROW
    WHEN (OLD.avatar_url IS DISTINCT FROM NEW.avatar_url AND current_setting('app.rules', true) = '{set}')
    EXECUTE FUNCTION drop_avatar();
