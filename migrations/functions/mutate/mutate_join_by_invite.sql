-- Joins by the code of an invitation. It counts as an invitation by its creator, so blocks between the two apply.
-- Locks: the conversation's row (locked_conversation).

CREATE FUNCTION mutate_join_by_invite(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    i conversation_invites;
    v_seq bigint;
BEGIN
    o.conversation_id := c.id;
    SELECT m.joined_seq INTO v_seq FROM conversation_members m WHERE m.conversation_id = c.id AND m.user_id = p_actor;
    IF NOT FOUND THEN
        SELECT * INTO i FROM conversation_invites x WHERE x.code = p_arguments ->> 'code' AND x.conversation_id = c.id;
        IF NOT FOUND OR i.expires_at <= now() OR i.uses >= i.max_uses THEN
            PERFORM refuse('not_found', 'data.code: this invitation does not exist, has expired, or was used up');
        END IF;
        o.events := add_member(c, p_actor, i.created_by, p_mutation_id);
        o.notices := close_request(c, p_actor, i.created_by, 'accepted');
        UPDATE conversation_invites x SET uses = x.uses + 1 WHERE x.code = i.code;
        o.gained := ARRAY[p_actor];
        v_seq := o.events -> 0 -> 'seq';
    END IF;
    o.result := jsonb_build_object('conversation', conversation_now(c.id, p_actor), 'seq', v_seq);
    RETURN o;
END $$;
