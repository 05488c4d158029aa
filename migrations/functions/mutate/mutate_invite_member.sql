-- Adds another user, or invites a user who must decide themselves (addable_users). A user who has asked to join is
-- added.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_invite_member(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    v_result jsonb;
    v_user bigint := (p.arguments -> 'user_id')::bigint;
BEGIN
    o.result := jsonb_build_object('conversation_id', conversation_text_id(c.id), 'user_id', v_user);
    IF NOT EXISTS (SELECT FROM conversation_members x WHERE x.conversation_id = c.id AND x.user_id = v_user)
       AND NOT EXISTS (SELECT FROM conversation_join_requests x
                        WHERE x.conversation_id = c.id AND x.user_id = v_user) THEN
        PERFORM refuse_admission(c, p, v_user, p.actor_id);
        IF addable_users(ARRAY[v_user], p.actor_id) = '{}' THEN
            o.result := o.result || '{"pending": true}';
            RETURN invite_users(o, c, p, ARRAY[v_user]);
        END IF;
    END IF;
    v_result := o.result;
    o := admit_member(c, p, v_user, p.actor_id);
    o.result := v_result;
    RETURN o;
END $$;
