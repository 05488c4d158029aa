-- Accepts or declines a request to join.
-- Locks: the conversation's row (locked_conversation).

CREATE FUNCTION mutate_decide_join_request(
    p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := ruling_member(c, p_actor, 'moderator');
    v_user     bigint := (p_arguments -> 'user_id')::bigint;
    v_accepted boolean := (p_arguments -> 'accepted')::boolean;
BEGIN
    o.conversation_id := c.id;
    o.notices := close_request(c, v_user, p_actor, CASE WHEN v_accepted THEN 'accepted' ELSE 'declined' END);
    IF o.notices IS NOT NULL THEN
        IF v_accepted THEN
            o.events := add_member(c, v_user, p_actor, p_mutation_id);
            o.gained := ARRAY[v_user];
        END IF;
    ELSIF NOT EXISTS (SELECT FROM users u WHERE u.id = v_user) THEN
        PERFORM refuse('not_found', 'data.user_id: no such user');
    ELSIF v_accepted AND NOT EXISTS (
            SELECT FROM conversation_members x WHERE x.conversation_id = c.id AND x.user_id = v_user) THEN
        PERFORM refuse('not_found', 'data.user_id: this user does not ask to join (any more)');
    END IF;
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user,
                                   'accepted', v_accepted,
                                   'seq', coalesce(o.events -> 0 -> 'seq', to_jsonb(c.last_seq)));
    RETURN o;
END $$;
