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

-- People are found by the beginning of their user name, or of any word of their name, without case and accents.
CREATE INDEX users_by_username_prefix ON users (lower(username) text_pattern_ops);
CREATE INDEX users_by_name ON users USING gin (to_tsvector('public.veza', display_name));
-- As in V11, but that a beginning is taken as it is: what that took out as not alphanumeric was, in a database whose locale
-- is C, every letter that is not Latin.
CREATE OR REPLACE FUNCTION search_words(p_query text) RETURNS tsquery LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    -- "or" is a word as any other.
    v_rest  text := regexp_replace(regexp_replace(p_query, '(^|\s)[^\s"-]\S*\*(?=\s|$)', ' ', 'g'), '\mor\M', '"or"', 'gi');
    v_words tsquery := CASE WHEN v_rest ~ '\S' THEN websearch_to_tsquery('public.veza', v_rest) END;
    v_beginnings tsquery := (
        SELECT to_tsquery('simple', string_agg(quote_literal(b.beginning) || ':*', ' & '))
          FROM (SELECT folded(f.groups[2]) AS beginning
                  FROM regexp_matches(p_query, '(^|\s)([^\s"*''\\:&|!()<>-][^\s"*''\\:&|!()<>]*)\*(?=\s|$)', 'g') AS f (groups)) b
         WHERE b.beginning <> '');
BEGIN
    RETURN coalesce(v_words && v_beginnings, v_words, v_beginnings);
END $$;
-- What somebody types for a name: words, the last of which may be a beginning, and nothing that has a meaning in a search.
CREATE FUNCTION name_words(p_query text) RETURNS tsquery LANGUAGE sql IMMUTABLE AS
    $$ SELECT search_words(regexp_replace(p_query, '["*''\\:&|!()<>-]+', ' ', 'g') || '*') $$;
