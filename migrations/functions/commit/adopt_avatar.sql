-- Content that is stored under this number becomes the picture of a user, at this address. The content of the former
-- picture is released. Returns whether the content still has that number: otherwise it was released meanwhile. The same
-- transaction sets users.avatar_url.
-- Locks: the user's row, the content's row in blobs, the picture's row, then a job's row.

CREATE FUNCTION adopt_avatar(p_user bigint, p_url text, p_hash bytea, p_number bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_former bytea;
BEGIN
    PERFORM FROM users u WHERE u.id = p_user FOR NO KEY UPDATE;
    PERFORM FROM blobs b WHERE b.sha256 = p_hash AND b.number = p_number FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT a.sha256 INTO v_former FROM user_avatars a WHERE a.user_id = p_user;
    INSERT INTO user_avatars (user_id, url, sha256) VALUES (p_user, p_url, p_hash)
    ON CONFLICT (user_id) DO UPDATE SET url = excluded.url, sha256 = excluded.sha256, created_at = now();
    IF v_former <> p_hash THEN
        PERFORM plan_release(v_former);
    END IF;
    RETURN true;
END $$;
