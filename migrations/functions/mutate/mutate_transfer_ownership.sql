-- Makes another member the owner and the owner an admin. Both mutes end: no member could lift the mute of an owner.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_transfer_ownership(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    v_user bigint := (p.arguments -> 'user_id')::bigint;
BEGIN
    PERFORM member_below(c, m, v_user);
    UPDATE conversation_members x SET role = CASE WHEN x.user_id = v_user THEN 'owner' ELSE 'admin' END::member_role,
           muted_until = NULL
     WHERE x.conversation_id = c.id AND x.user_id IN (p.actor_id, v_user);
    UPDATE conversations x SET owner_id = v_user WHERE x.id = c.id;
    o := append_event(o, c, p, 'member_updated', jsonb_build_object(
        'user', actor_json(v_user), 'role', 'owner', 'muted_until', NULL, 'actor', actor_json(p.actor_id)));
    o := append_event(o, c, p, 'member_updated', jsonb_build_object(
        'user', actor_json(p.actor_id), 'role', 'admin', 'muted_until', NULL, 'actor', actor_json(p.actor_id)));
    o := append_event(o, c, p, 'conversation_updated', jsonb_build_object(
        'owner_id', v_user, 'actor', actor_json(p.actor_id)));
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'owner_id', v_user);
    RETURN o;
END $$;
