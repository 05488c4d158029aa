-- A conversation whose last member was erased: nobody can open it again, so its name and description go, also from its
-- log. Bots do not count. Returns whether it is one.
-- It needs the rights of the owner, in a transaction with app.data_rights.
-- Locks: the conversation's row, then those of its events.

CREATE FUNCTION erase_empty_room(p_conversation bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    c conversations;
BEGIN
    SELECT * INTO c FROM conversations x WHERE x.id = p_conversation AND x.kind <> 'direct' FOR NO KEY UPDATE;
    IF NOT FOUND OR EXISTS (
        SELECT FROM conversation_members m
         WHERE m.conversation_id = c.id AND NOT EXISTS (SELECT FROM bots b WHERE b.user_id = m.user_id)) THEN
        RETURN false;
    END IF;
    UPDATE conversations x SET name = CASE WHEN x.name IS NOT NULL THEN 'Deleted room' END, description = NULL
     WHERE x.id = c.id;
    UPDATE conversation_events e SET payload = e.payload
           || CASE WHEN e.payload ->> 'name' IS NULL THEN '{}'::jsonb ELSE '{"name": "Deleted room"}' END
           || CASE WHEN e.payload ->> 'description' IS NULL THEN '{}'::jsonb ELSE '{"description": null}' END
     WHERE e.conversation_id = c.id AND e.kind IN ('conversation_created', 'conversation_updated');
    RETURN true;
END $$;
