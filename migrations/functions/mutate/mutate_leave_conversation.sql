-- Leaves a conversation. When the owner leaves, the member with the highest role inherits, among equals the one who has
-- been there longest. A conversation without members is archived.
-- Locks: the conversation's row (locked_conversation).

CREATE FUNCTION mutate_leave_conversation(
    p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    v_heir bigint;
    v_seq  jsonb;
BEGIN
    o.conversation_id := c.id;
    PERFORM acting_member(c, p_actor);
    IF c.kind = 'direct' THEN
        PERFORM refuse('forbidden', 'a direct conversation cannot be left');
    END IF;
    o.events := remove_member(c, p_actor, p_actor, p_mutation_id, 'left');
    v_seq := o.events -> -1 -> 'seq';
    IF c.owner_id = p_actor THEN
        -- A conversation never ends without an owner: the highest role inherits, among equals the longest there.
        SELECT m.user_id INTO v_heir FROM conversation_members m WHERE m.conversation_id = c.id
         ORDER BY m.role DESC, m.joined_seq, m.user_id LIMIT 1;
        IF FOUND THEN
            UPDATE conversation_members m SET role = 'owner', muted_until = NULL
             WHERE m.conversation_id = c.id AND m.user_id = v_heir;
            UPDATE conversations x SET owner_id = v_heir WHERE x.id = c.id;
            o.events := o.events
                || append_event(c.id, 'member_updated', p_actor, p_mutation_id, jsonb_build_object(
                       'user', actor_json(v_heir), 'role', 'owner', 'muted_until', NULL, 'actor', actor_json(p_actor)))
                || append_event(c.id, 'conversation_updated', p_actor, p_mutation_id, jsonb_build_object(
                       'owner_id', v_heir, 'actor', actor_json(p_actor)));
        ELSE
            UPDATE conversations x SET archived_at = now() WHERE x.id = c.id;
            o.events := o.events || append_event(c.id, 'conversation_updated', p_actor, p_mutation_id,
                jsonb_build_object('archived', true, 'actor', actor_json(p_actor)));
        END IF;
    END IF;
    o.lost := ARRAY[p_actor];
    o.result := jsonb_build_object('conversation', conversation_now(c.id, p_actor), 'seq', v_seq);
    RETURN o;
END $$;
