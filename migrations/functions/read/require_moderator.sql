-- The same for moderators and up.

CREATE FUNCTION require_moderator(p_arguments jsonb) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_conversation bigint := require_access(p_arguments);
BEGIN
    IF v_conversation NOT IN (SELECT app_moderated()) THEN
        PERFORM refuse('forbidden', 'This needs the role moderator or higher.');
    END IF;
    RETURN v_conversation;
END $$;
