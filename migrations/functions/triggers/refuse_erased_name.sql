-- Refuses the name of a person who is still being erased: mentions of it are being replaced, and would be those of
-- somebody else. The refusal is that of a name that is taken.
-- Locks: none.

CREATE FUNCTION refuse_erased_name() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM erasures e WHERE lower(e.username) = lower(NEW.username) AND e.user_id <> NEW.id) THEN
        RAISE unique_violation USING CONSTRAINT = 'users_username_key', MESSAGE = 'the name is being erased';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER refuse_erased_name_{set} BEFORE INSERT ON users FOR EACH ROW
    WHEN (current_setting('app.rules', true) = '{set}') EXECUTE FUNCTION refuse_erased_name();
