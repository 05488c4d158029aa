-- A new member's row starts with the present version of their profile. The lock makes a change of the profile wait
-- until the transaction ends: it then finds the membership and announces itself there.
-- Locks: the user's row, FOR SHARE.

CREATE FUNCTION note_profile_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.profile_version := coalesce((SELECT u.profile_version FROM users u WHERE u.id = NEW.user_id FOR SHARE), 0);
    RETURN NEW;
END $$;

CREATE TRIGGER note_profile_version_{set} BEFORE INSERT ON conversation_members FOR EACH ROW
    WHEN (current_setting('app.rules', true) = '{set}') EXECUTE FUNCTION note_profile_version();
