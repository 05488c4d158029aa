-- Who sees somebody sees it when they change their name, their picture or what they say of themselves: as a
-- member_updated in the log of every conversation that they are in, like any other change. So whoever was away finds it.
--
-- The profile is changed first. profile_version counts changes; a member's counts what the conversation's log has told of
-- them, announced_version what all of them have. What is behind is told by control/announcer.rs, one conversation after the
-- other, now or after the next start.

ALTER TABLE users
    ADD COLUMN bio text CHECK (char_length(bio) <= 500),
    ADD COLUMN profile_version   bigint NOT NULL DEFAULT 0,
    ADD COLUMN announced_version bigint NOT NULL DEFAULT 0,
    ADD COLUMN announced_at      timestamptz NOT NULL DEFAULT '-infinity';
CREATE INDEX users_unannounced ON users (announced_at) WHERE announced_version < profile_version;
ALTER TABLE conversation_members ADD COLUMN profile_version bigint NOT NULL DEFAULT 0;
GRANT UPDATE (profile_version) ON conversation_members TO chat_writer;

-- Whoever becomes a member does so as what they are called now, and stays that until the transaction ends: a change that is
-- saved meanwhile either waits, and finds the membership, or was there first, and is in the event that is written next.
CREATE FUNCTION note_profile_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.profile_version := coalesce((SELECT u.profile_version FROM users u WHERE u.id = NEW.user_id FOR SHARE), 0);
    RETURN NEW;
END $$;
CREATE TRIGGER note_profile_version BEFORE INSERT ON conversation_members FOR EACH ROW EXECUTE FUNCTION note_profile_version();

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
