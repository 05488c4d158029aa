-- Those of the given users whose presence the user may see: themselves, and users in a common conversation without a
-- block between them.

CREATE FUNCTION read_get_presence(p_arguments jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('user_ids', coalesce(jsonb_agg(w.user_id ORDER BY w.n), '[]'))
      FROM (SELECT value::bigint AS user_id, min(n) AS n
              FROM jsonb_array_elements_text(p_arguments -> 'user_ids')
                   WITH ORDINALITY AS given (value, n) GROUP BY value::bigint) w
     WHERE w.user_id = app_user_id()
        OR (EXISTS (SELECT FROM conversation_members m
                     WHERE m.user_id = w.user_id AND m.conversation_id IN (SELECT app_conversations()))
            AND app_may_see(w.user_id))
$$;
