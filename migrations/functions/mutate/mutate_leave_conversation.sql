-- Leaves a conversation. When the owner leaves, the member with the highest role inherits, among equals the one who has
-- been there longest. A conversation without members is archived.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_leave_conversation(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    v_heir bigint;
    v_seq  bigint;
BEGIN
    IF c.kind = 'direct' THEN
        PERFORM refuse('forbidden', 'You cannot leave a direct conversation.');
    END IF;
    o := remove_member(o, c, p, p.actor_id, 'left');
    v_seq := o.seq;
    IF c.owner_id = p.actor_id THEN
        SELECT x.user_id INTO v_heir FROM conversation_members x WHERE x.conversation_id = c.id
         ORDER BY x.role DESC, x.joined_seq, x.user_id LIMIT 1;
        IF FOUND THEN
            UPDATE conversation_members x SET role = 'owner', muted_until = NULL
             WHERE x.conversation_id = c.id AND x.user_id = v_heir;
            UPDATE conversations x SET owner_id = v_heir WHERE x.id = c.id;
            o := append_event(o, c, p, 'member_updated', jsonb_build_object(
                'user', actor_json(v_heir), 'role', 'owner', 'muted_until', NULL, 'actor', actor_json(p.actor_id)));
            o := append_event(o, c, p, 'conversation_updated', jsonb_build_object(
                'owner_id', v_heir, 'actor', actor_json(p.actor_id)));
        ELSE
            UPDATE conversations x SET archived_at = now() WHERE x.id = c.id;
            o := append_event(o, c, p, 'conversation_updated', jsonb_build_object(
                'archived', true, 'actor', actor_json(p.actor_id)));
        END IF;
    END IF;
    o.seq := v_seq;
    o.result := jsonb_build_object('conversation', conversation_now(c.id, p.actor_id));
    RETURN o;
END $$;
