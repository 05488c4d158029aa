-- Changes name, description, slow mode, member limit or retention. rules/permitted_member.sql has the permission.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_update_conversation(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    v_changed jsonb := '{}';
    v_limit   integer := nullif((p.arguments ->> 'member_limit')::integer, 0);
    v_days    integer := nullif((p.arguments ->> 'retention_days')::integer, 0);
BEGIN
    IF c.archived_at IS NOT NULL THEN
        PERFORM refuse('read_only', 'The conversation is archived. Nothing in it can be changed.');
    ELSIF v_limit < (SELECT s.member_count FROM conversation_statistics s WHERE s.conversation_id = c.id) THEN
        PERFORM refuse('conflict', 'data.member_limit: The conversation has more members than that already.');
    END IF;
    IF p.arguments ? 'name' AND p.arguments ->> 'name' IS DISTINCT FROM c.name THEN
        v_changed := v_changed || jsonb_build_object('name', p.arguments -> 'name');
    END IF;
    IF p.arguments ? 'description' AND p.arguments ->> 'description' IS DISTINCT FROM c.description THEN
        v_changed := v_changed || jsonb_build_object('description', p.arguments -> 'description');
    END IF;
    IF p.arguments ? 'slow_mode_s' AND (p.arguments ->> 'slow_mode_s')::integer <> c.slow_mode_s THEN
        v_changed := v_changed || jsonb_build_object('slow_mode_s', p.arguments -> 'slow_mode_s');
    END IF;
    IF p.arguments ? 'member_limit' AND v_limit IS DISTINCT FROM c.member_limit THEN
        v_changed := v_changed || jsonb_build_object('member_limit', v_limit);
    END IF;
    IF p.arguments ? 'retention_days' AND v_days IS DISTINCT FROM c.retention_days THEN
        v_changed := v_changed || jsonb_build_object('retention_days', v_days);
    END IF;
    o.seq := c.last_seq;
    IF v_changed <> '{}' THEN
        UPDATE conversations x SET
               name = CASE WHEN v_changed ? 'name' THEN v_changed ->> 'name' ELSE x.name END,
               description = CASE WHEN v_changed ? 'description' THEN v_changed ->> 'description'
                                  ELSE x.description END,
               slow_mode_s = coalesce((v_changed ->> 'slow_mode_s')::integer, x.slow_mode_s),
               member_limit = CASE WHEN v_changed ? 'member_limit' THEN v_limit ELSE x.member_limit END,
               retention_days = CASE WHEN v_changed ? 'retention_days' THEN v_days ELSE x.retention_days END
         WHERE x.id = c.id;
        o := append_event(o, c, p, 'conversation_updated',
                          v_changed || jsonb_build_object('actor', actor_json(p.actor_id)));
    END IF;
    o.result := jsonb_build_object('conversation', conversation_now(c.id, p.actor_id));
    RETURN o;
END $$;
