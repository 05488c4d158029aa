-- Who may delete a message: its author, and a moderator whose role is above the author's. A system message has no
-- author, so any moderator may delete it.

CREATE FUNCTION refuse_foreign_deletion(c conversations, m conversation_members, h message_head) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_author member_role;
BEGIN
    IF h.message_type = 'system' THEN
        IF m.role < 'moderator' THEN
            PERFORM refuse('forbidden', 'Deleting a system message needs the role moderator or higher.');
        END IF;
    ELSIF h.sender_id <> m.user_id THEN
        SELECT x.role INTO v_author FROM conversation_members x
         WHERE x.conversation_id = c.id AND x.user_id = h.sender_id;
        IF m.role < 'moderator' OR m.role <= v_author THEN
            PERFORM refuse('forbidden', 'Only the author, or a moderator with a higher role, can delete a message.');
        END IF;
    END IF;
END $$;
