-- Accepts or declines a request to join. A decision without a request changes nothing: another moderator was faster.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_decide_join_request(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    v_user bigint := (p.arguments -> 'user_id')::bigint;
    v_accepted boolean := (p.arguments -> 'accepted')::boolean;
BEGIN
    o.seq := c.last_seq;
    IF EXISTS (SELECT FROM conversation_join_requests x WHERE x.conversation_id = c.id AND x.user_id = v_user) THEN
        IF v_accepted THEN
            o := admit_member(c, p, v_user, p.actor_id);
        ELSE
            o := close_request(o, c, v_user, p.actor_id, 'declined');
        END IF;
    ELSIF NOT EXISTS (SELECT FROM users u WHERE u.id = v_user) THEN
        PERFORM refuse('not_found', 'data.user_id: There is no such user.');
    ELSIF v_accepted AND NOT EXISTS (
            SELECT FROM conversation_members x WHERE x.conversation_id = c.id AND x.user_id = v_user) THEN
        PERFORM refuse('not_found', 'data.user_id: This user has no open request to join.');
    END IF;
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user,
                                   'accepted', v_accepted);
    RETURN o;
END $$;
