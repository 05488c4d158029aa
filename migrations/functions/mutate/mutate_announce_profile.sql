-- Appends the actor's changed profile to one conversation. The server does so for every conversation of the user; the
-- version that the member's row has announced makes it idempotent.
-- Locks: the conversation's row (locked_conversation).

CREATE FUNCTION mutate_announce_profile(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    u users;
BEGIN
    o.conversation_id := c.id;
    SELECT * INTO STRICT u FROM users x WHERE x.id = p_actor;
    UPDATE conversation_members m SET profile_version = u.profile_version
     WHERE m.conversation_id = c.id AND m.user_id = p_actor AND m.profile_version < u.profile_version;
    IF FOUND THEN
        o.events := jsonb_build_array(append_event(c.id, 'member_updated', p_actor, p_mutation_id, jsonb_build_object(
            'user', user_json(u), 'actor', user_json(u), 'profile',
            jsonb_build_object('display_name', u.display_name, 'avatar_url', u.avatar_url, 'bio', u.bio))));
    END IF;
    o.result := '{}';
    RETURN o;
END $$;
