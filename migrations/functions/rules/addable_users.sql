-- Those of the given users whom p_by may add to a conversation at once. The others must accept an invitation first: by
-- their own setting, or because strangers have added them too often within the last hour (app.stranger_additions, which
-- the server sets from security.stranger_additions_per_hour), or because p_by has added twenty times as many users.
-- Each addition counts, so that the cheap check comes first. Contacts pass when the budget is used up, but one user
-- adds another at most twenty times an hour: a single answer makes a contact.
-- Locks: an advisory lock per user, until the transaction ends, for the count. It is never waited for: a user whom
-- somebody else is adding at this moment must accept.

CREATE FUNCTION addable_users(p_users bigint[], p_by bigint) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    c_per_user CONSTANT bigint := coalesce(nullif(current_setting('app.stranger_additions', true), '')::bigint, 10);
    c_of_contact CONSTANT bigint := greatest(20, c_per_user);
    v_left     bigint;
    v_user     bigint;
    v_setting  text;
    v_addable  bigint[] := '{}';
BEGIN
    SELECT 20 * c_per_user - count(*) INTO v_left
      FROM (SELECT FROM stranger_additions a WHERE a.added_by = p_by AND a.created_at > now() - interval '1 hour'
             LIMIT 20 * c_per_user) a;
    FOREACH v_user IN ARRAY coalesce(p_users, '{}') LOOP
        SELECT u.group_invitations INTO v_setting FROM users u WHERE u.id = v_user;
        IF v_setting = 'everyone' AND v_left > 0
           AND pg_try_advisory_xact_lock(hashtextextended('stranger_additions', v_user)) THEN
            DELETE FROM stranger_additions a WHERE a.user_id = v_user AND a.created_at <= now() - interval '1 hour';
            IF (SELECT count(*) FROM stranger_additions a WHERE a.user_id = v_user) < c_per_user THEN
                INSERT INTO stranger_additions (user_id, added_by) VALUES (v_user, p_by);
                v_left := v_left - 1;
                v_addable := v_addable || v_user;
                CONTINUE;
            END IF;
        END IF;
        IF v_setting <> 'nobody' AND is_contact(v_user, p_by)
           AND (SELECT count(*) FROM stranger_additions a WHERE a.user_id = v_user AND a.added_by = p_by
                   AND a.created_at > now() - interval '1 hour') < c_of_contact THEN
            INSERT INTO stranger_additions (user_id, added_by) VALUES (v_user, p_by);
            v_addable := v_addable || v_user;
        END IF;
    END LOOP;
    RETURN v_addable;
END $$;
