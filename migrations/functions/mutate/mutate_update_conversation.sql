-- Changes name, description, slow mode or member limit. In a group every member who may speak can change the name and
-- the description; all the rest is for admins.
-- Locks: the conversation's row (locked_conversation).

CREATE FUNCTION mutate_update_conversation(
    p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    v_changed jsonb := '{}';
    v_limit   integer := nullif((p_arguments ->> 'member_limit')::integer, 0);
BEGIN
    -- In a group everybody who may speak may rename it.
    IF c.kind = 'group' AND NOT p_arguments ?| '{slow_mode_s,member_limit}' THEN
        PERFORM speaking_member(c, p_actor);
    ELSE
        PERFORM ruling_member(c, p_actor, 'admin');
    END IF;
    o.conversation_id := c.id;
    IF c.archived_at IS NOT NULL THEN
        PERFORM refuse('read_only', 'the conversation is archived; nothing in it can be changed');
    ELSIF v_limit < (SELECT s.member_count FROM conversation_statistics s WHERE s.conversation_id = c.id) THEN
        PERFORM refuse('conflict', 'data.member_limit: there are more members than that already');
    END IF;
    IF p_arguments ? 'name' AND p_arguments ->> 'name' IS DISTINCT FROM c.name THEN
        v_changed := v_changed || jsonb_build_object('name', p_arguments -> 'name');
    END IF;
    IF p_arguments ? 'description' AND p_arguments ->> 'description' IS DISTINCT FROM c.description THEN
        v_changed := v_changed || jsonb_build_object('description', p_arguments -> 'description');
    END IF;
    IF p_arguments ? 'slow_mode_s' AND (p_arguments ->> 'slow_mode_s')::integer <> c.slow_mode_s THEN
        v_changed := v_changed || jsonb_build_object('slow_mode_s', p_arguments -> 'slow_mode_s');
    END IF;
    IF p_arguments ? 'member_limit' AND v_limit IS DISTINCT FROM c.member_limit THEN
        v_changed := v_changed || jsonb_build_object('member_limit', v_limit);
    END IF;
    IF v_changed <> '{}' THEN
        UPDATE conversations x SET
               name = CASE WHEN v_changed ? 'name' THEN v_changed ->> 'name' ELSE x.name END,
               description = CASE WHEN v_changed ? 'description' THEN v_changed ->> 'description'
                                  ELSE x.description END,
               slow_mode_s = coalesce((v_changed ->> 'slow_mode_s')::integer, x.slow_mode_s),
               member_limit = CASE WHEN v_changed ? 'member_limit' THEN v_limit ELSE x.member_limit END
         WHERE x.id = c.id;
        o.events := jsonb_build_array(append_event(c.id, 'conversation_updated', p_actor, p_mutation_id,
            v_changed || jsonb_build_object('actor', actor_json(p_actor))));
    END IF;
    o.result := jsonb_build_object('conversation', conversation_now(c.id, p_actor),
                                   'seq', coalesce(o.events -> 0 -> 'seq', to_jsonb(c.last_seq)));
    RETURN o;
END $$;
