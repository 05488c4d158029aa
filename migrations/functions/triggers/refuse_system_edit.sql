-- Refuses an edit of a system message, except for an erasure, which replaces a name.
-- Locks: none.

CREATE FUNCTION refuse_system_edit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM refuse('forbidden', 'A system message cannot be edited.');
    RETURN NULL;
END $$;

CREATE TRIGGER refuse_system_edit_{set} BEFORE UPDATE OF content ON messages FOR EACH ROW
    WHEN (current_setting('app.rules', true) = '{set}' AND OLD.message_type = 'system' AND NEW.deleted_at IS NULL
          AND current_setting('app.erasing', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION refuse_system_edit();
