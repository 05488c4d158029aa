-- Public rooms that are not archived, whose name contains the query. The index conversations_public leads to them.

CREATE FUNCTION read_list_public_rooms(p_arguments jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT page_json('conversations', (
        SELECT jsonb_agg(jsonb_build_object('key', c.id, 'value', conversation_json(c, app_user_id())) ORDER BY c.id)
          FROM (SELECT x.* FROM conversations x
                 WHERE x.kind = 'public_room' AND x.archived_at IS NULL
                   AND x.id > coalesce((p_arguments ->> 'cursor')::bigint, 0)
                   AND (p_arguments ->> 'query' IS NULL OR strpos(folded(x.name), folded(p_arguments ->> 'query')) > 0)
                 ORDER BY x.id LIMIT (p_arguments -> 'limit')::bigint + 1) c), (p_arguments -> 'limit')::bigint)
$$;
