-- Adds a user to a conversation: every command by which a user joins ends here. p_by is the user who admits p_user; if
-- both are the same, the user joins without an invitation. Ends the user's request to join and invitation. A mute or
-- read-only role from before the user left applies again. A user who is a member already receives the seq of the first
-- time.
-- Locks: the conversation's row, which apply_mutations holds; the user's profile FOR SHARE (note_profile_version).

CREATE FUNCTION admit_member(c conversations, p mutation, p_user bigint, p_by bigint)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    r conversation_restrictions;
    v_reported boolean;
    v_seq      bigint;
BEGIN
    SELECT x.joined_seq INTO o.seq FROM conversation_members x WHERE x.conversation_id = c.id AND x.user_id = p_user;
    IF FOUND THEN
        RETURN o;
    END IF;
    PERFORM refuse_admission(c, p, p_user, p_by);
    o := close_request(o, c, p_user, p_by, 'accepted');
    o := close_invitation(o, c, p_user);
    v_reported := is_worth_reporting(c, p_user, p_by);
    DELETE FROM conversation_restrictions x WHERE x.conversation_id = c.id AND x.user_id = p_user RETURNING * INTO r;
    -- The read marker starts behind the events that are appended below: earlier messages are history, not unread.
    INSERT INTO conversation_members (conversation_id, user_id, joined_seq, read_seq, role, muted_until)
    VALUES (c.id, p_user, c.last_seq + 1, c.last_seq + CASE WHEN v_reported THEN 2 ELSE 1 END,
            coalesce(r.role, 'member'), r.muted_until);
    p.actor_id := p_by;
    o := append_event(o, c, p, 'member_joined', jsonb_build_object(
        'user', actor_json(p_user), 'role', coalesce(r.role, 'member'), 'muted_until', rfc3339(r.muted_until),
        'invited_by', CASE WHEN p_by <> p_user THEN actor_json(p_by) END));
    v_seq := o.seq;
    IF v_reported THEN
        o := append_system_message(o, c, CASE WHEN p_by = p_user THEN 'joined' ELSE 'added' END, p_user, p_by);
    END IF;
    o.seq := v_seq;
    o.gained := ARRAY[p_user];
    RETURN o;
END $$;
