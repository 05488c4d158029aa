-- Refuses what reaches other people while a response to a security event mutes the actor everywhere.
-- commit_messages has the same rule for messages.
-- Locks: none.

CREATE FUNCTION refuse_muted_user(p_actor bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_until timestamptz := (SELECT u.muted_until FROM users u WHERE u.id = p_actor);
BEGIN
    IF v_until > now() THEN
        PERFORM refuse_until('muted', 'You are muted on this server because of unusual activity. Wait until the mute '
            'ends.', v_until);
    END IF;
END $$;
