-- Ends a user's invitation, if there is one, with a notice to the user's other connections.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION close_invitation(o mutation_outcome, c conversations, p_user bigint)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM conversation_invitations x WHERE x.conversation_id = c.id AND x.user_id = p_user;
    IF FOUND THEN
        o.notices := coalesce(o.notices, '[]') || jsonb_build_array(jsonb_build_object(
            'users', ARRAY[p_user], 'kind', 'invitation_closed', 'payload', '{}'::jsonb));
    END IF;
    RETURN o;
END $$;
