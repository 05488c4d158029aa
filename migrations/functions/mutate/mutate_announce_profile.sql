-- Appends the actor's changed profile to one conversation. The server does so for every conversation of the user; the
-- version that the member's row has announced makes it idempotent. A member who may not write does not speak through a
-- profile either, nor does one of two users with a block between them in their direct conversation. It is announced
-- with the first change after the mute, the read-only role or the block has ended. An erasure is always announced.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_announce_profile(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    u users;
BEGIN
    SELECT * INTO STRICT u FROM users x WHERE x.id = p.actor_id;
    -- The row keeps its version, so that a later change announces the newest profile.
    IF u.erased_at IS NULL AND (m.role = 'read_only' OR m.muted_until > now() OR u.muted_until > now()
       OR (c.kind = 'direct' AND is_blocked(c.direct_low, c.direct_high))) THEN
        o.result := '{}';
        RETURN o;
    END IF;
    UPDATE conversation_members x SET profile_version = u.profile_version
     WHERE x.conversation_id = c.id AND x.user_id = p.actor_id AND x.profile_version < u.profile_version;
    IF FOUND THEN
        o := append_event(o, c, p, 'member_updated', jsonb_build_object('user', user_json(u), 'actor', user_json(u),
            'profile', jsonb_build_object('display_name', u.display_name, 'avatar_url', u.avatar_url, 'bio', u.bio)));
    END IF;
    o.seq := NULL;
    o.result := '{}';
    RETURN o;
END $$;
