-- Adds or removes the actor's reaction. A message has 20 different emoji at most.
-- Locks: the conversation's row (locked_conversation).

CREATE FUNCTION change_reaction(
    p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb, p_add boolean)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := speaking_member(c, p_actor);
    h message_head := message_in(c, p_arguments);
    v_emoji text := p_arguments ->> 'emoji';
    v_has   boolean;
    v_count bigint;
    v_event jsonb;
BEGIN
    o.conversation_id := c.id;
    PERFORM refuse_deleted(h);
    v_has := EXISTS (SELECT FROM message_reactions x
                      WHERE x.message_id = h.id AND x.emoji = v_emoji AND x.user_id = p_actor);
    IF p_add AND NOT v_has THEN
        IF NOT EXISTS (SELECT FROM message_reactions x WHERE x.message_id = h.id AND x.emoji = v_emoji)
           AND (SELECT count(DISTINCT x.emoji) FROM message_reactions x WHERE x.message_id = h.id) >= 20 THEN
            PERFORM refuse('conflict', 'a message can have 20 different reactions; use one of those that are there');
        END IF;
        INSERT INTO message_reactions (message_id, emoji, user_id, conversation_id)
        VALUES (h.id, v_emoji, p_actor, c.id);
    ELSIF NOT p_add AND v_has THEN
        DELETE FROM message_reactions x WHERE x.message_id = h.id AND x.emoji = v_emoji AND x.user_id = p_actor;
    END IF;
    SELECT count(*) INTO v_count FROM message_reactions x WHERE x.message_id = h.id AND x.emoji = v_emoji;
    IF v_has = p_add THEN
        o.result := jsonb_build_object('message_id', h.id, 'emoji', v_emoji, 'count', v_count, 'seq', c.last_seq);
        RETURN o;
    END IF;
    v_event := append_event(
        c.id, CASE WHEN p_add THEN 'reaction_added' ELSE 'reaction_removed' END, p_actor, p_mutation_id,
        jsonb_build_object('message_id', h.id, 'emoji', v_emoji, 'count', v_count, 'user', actor_json(p_actor)));
    o.events := jsonb_build_array(v_event);
    o.result := jsonb_build_object('message_id', h.id, 'emoji', v_emoji, 'count', v_count, 'seq', v_event -> 'seq');
    RETURN o;
END $$;
