-- Refuses a new conversation that contains users who have blocked its owner or are blocked by them.
-- Locks: none.

CREATE FUNCTION refuse_blocked_members() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_blocked bigint;
BEGIN
    SELECT n.user_id INTO v_blocked FROM new_members n JOIN conversations c ON c.id = n.conversation_id
     WHERE n.joined_seq = 1 AND n.user_id <> c.owner_id AND is_blocked(n.user_id, c.owner_id) LIMIT 1;
    IF FOUND THEN
        PERFORM refuse('blocked', format('data.member_ids: You cannot add user %s.', v_blocked));
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER refuse_blocked_members_{set} AFTER INSERT ON conversation_members
    REFERENCING NEW TABLE AS new_members FOR EACH STATEMENT
    WHEN (current_setting('app.rules', true) = '{set}') EXECUTE FUNCTION refuse_blocked_members();
