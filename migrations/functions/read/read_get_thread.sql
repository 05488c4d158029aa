-- A thread: its first message and a page of replies. From the beginning, or the replies before before_seq.

CREATE FUNCTION read_get_thread(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    m messages := readable_message(p_arguments);
    v_root   bigint := coalesce(m.parent_message_id, m.id);
    v_limit  bigint := (p_arguments -> 'limit')::bigint;
    v_before bigint := (p_arguments ->> 'before_seq')::bigint;
    v_after  bigint := (p_arguments ->> 'after_seq')::bigint;
    v_ids    bigint[];
    v_floor  bigint := message_floor(v_root);
    v_first  bigint;
    v_last   bigint;
    v_more   boolean;
BEGIN
    IF v_before IS NULL THEN
        v_ids := ARRAY(SELECT x.id FROM messages x WHERE x.parent_message_id = v_root AND x.seq > coalesce(v_after, 0)
                          AND x.id >= v_floor
                        ORDER BY x.seq LIMIT v_limit + 1);
    ELSE
        v_ids := ARRAY(SELECT x.id FROM messages x WHERE x.parent_message_id = v_root AND x.seq < v_before
                          AND x.id >= v_floor
                        ORDER BY x.seq DESC LIMIT v_limit + 1);
    END IF;
    SELECT min(x), max(x) INTO v_first, v_last FROM unnest(v_ids) x;
    v_more := cardinality(v_ids) > v_limit; -- one more than asked for, at the far end
    RETURN following_json(v_root, app_user_id()) - 'message_id' || jsonb_build_object(
        'root', (SELECT message_json(s) FROM shown_messages s WHERE s.message_id = v_root),
        'messages', (
            SELECT coalesce(jsonb_agg(message_json(s) ORDER BY CASE WHEN v_before IS NULL THEN i.n ELSE -i.n END), '[]')
              FROM unnest(v_ids[1 : v_limit::integer]) WITH ORDINALITY AS i (id, n)
              JOIN shown_messages s ON s.message_id = i.id AND s.message_id >= v_first AND s.message_id <= v_last),
        'has_more', v_more);
END $$;
