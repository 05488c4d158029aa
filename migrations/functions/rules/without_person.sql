-- A payload of the log, or what a system message is about, in which every object that describes an erased person has
-- their present names instead of the former ones, and no profile.
-- An object describes a user if it has an id and a username (user_json).
-- needs: erased_name system_text

CREATE FUNCTION without_person(p_payload jsonb, p_user bigint) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_key   text;
    v_value jsonb;
    v_to    jsonb := p_payload;
BEGIN
    IF jsonb_typeof(p_payload) = 'array' THEN
        RETURN (SELECT coalesce(jsonb_agg(without_person(x, p_user) ORDER BY n), '[]')
                  FROM jsonb_array_elements(p_payload) WITH ORDINALITY AS e (x, n));
    ELSIF jsonb_typeof(p_payload) <> 'object' THEN
        RETURN p_payload;
    ELSIF p_payload ? 'username' AND p_payload -> 'id' = to_jsonb(p_user) THEN
        RETURN p_payload || jsonb_build_object('username', erased_name(p_user), 'display_name', 'Deleted user');
    END IF;
    IF p_payload ? 'profile' AND p_payload #> '{user,id}' = to_jsonb(p_user) THEN
        v_to := v_to || '{"profile": {"display_name": "Deleted user", "avatar_url": null, "bio": null}}';
    END IF;
    FOR v_key, v_value IN SELECT * FROM jsonb_each(v_to) LOOP
        IF jsonb_typeof(v_value) IN ('object', 'array') THEN
            v_to := v_to || jsonb_build_object(v_key, without_person(v_value, p_user));
        END IF;
    END LOOP;
    -- A direct conversation is called after the other person.
    IF v_to ->> 'kind' = 'direct' AND jsonb_typeof(v_to -> 'name') = 'string' THEN
        v_to := v_to || '{"name": "Deleted user"}';
    END IF;
    -- A new system message, whose text names them too.
    IF v_to ->> 'message_type' = 'system' AND jsonb_typeof(v_to -> 'system') = 'object' THEN
        v_to := v_to || jsonb_build_object('content', system_text(v_to -> 'system'));
    END IF;
    RETURN v_to;
END $$;
