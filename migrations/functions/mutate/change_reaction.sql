-- Adds or removes the actor's reaction. A message has 20 different emoji at most.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION change_reaction(c conversations, p mutation, p_add boolean) RETURNS mutation_outcome
LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    h message_head := message_in(c, p);
    v_emoji text := p.arguments ->> 'emoji';
    v_has   boolean;
    v_count bigint;
BEGIN
    PERFORM refuse_deleted(h);
    v_has := EXISTS (SELECT FROM message_reactions x
                      WHERE x.message_id = h.id AND x.emoji = v_emoji AND x.user_id = p.actor_id);
    IF p_add AND NOT v_has THEN
        IF NOT EXISTS (SELECT FROM message_reactions x WHERE x.message_id = h.id AND x.emoji = v_emoji)
           AND (SELECT count(DISTINCT x.emoji) FROM message_reactions x WHERE x.message_id = h.id) >= 20 THEN
            PERFORM refuse('conflict', 'A message can have 20 different reactions. Use one that it already has.');
        END IF;
        INSERT INTO message_reactions (message_id, emoji, user_id, conversation_id)
        VALUES (h.id, v_emoji, p.actor_id, c.id);
    ELSIF NOT p_add AND v_has THEN
        DELETE FROM message_reactions x WHERE x.message_id = h.id AND x.emoji = v_emoji AND x.user_id = p.actor_id;
    END IF;
    SELECT count(*) INTO v_count FROM message_reactions x WHERE x.message_id = h.id AND x.emoji = v_emoji;
    o.seq := c.last_seq;
    o.result := jsonb_build_object('message_id', h.id, 'emoji', v_emoji, 'count', v_count);
    IF v_has = p_add THEN
        RETURN o;
    END IF;
    RETURN append_event(o, c, p, CASE WHEN p_add THEN 'reaction_added' ELSE 'reaction_removed' END, jsonb_build_object(
        'message_id', h.id, 'emoji', v_emoji, 'count', v_count, 'user', actor_json(p.actor_id)));
END $$;
