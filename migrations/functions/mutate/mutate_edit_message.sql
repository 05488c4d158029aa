-- Replaces the text of the actor's own message. The trigger keep_edits keeps the earlier text, 50 of them at most.
-- The log stores no text: a replay reads the present one.
-- Locks: the conversation's row (locked_conversation).

CREATE FUNCTION mutate_edit_message(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    c conversations := locked_conversation(p_conversation);
    m conversation_members := speaking_member(c, p_actor);
    h message_head := message_in(c, p_arguments);
    v_window   bigint := (p_arguments -> 'window_s')::bigint;
    v_before   bigint[];
    v_mentions bigint[];
    v_event    jsonb;
BEGIN
    PERFORM refuse_deleted(h);
    IF h.sender_id <> p_actor THEN
        PERFORM refuse('forbidden', 'only its author can edit a message');
    ELSIF (SELECT count(*) FROM message_edits e WHERE e.message_id = h.id) >= 50 THEN
        PERFORM refuse('conflict', 'a message can be edited 50 times; write a new one');
    ELSIF v_window > 0 AND h.created_at < now() - make_interval(secs => v_window) THEN
        PERFORM refuse('forbidden', format('a message can be edited for %s seconds after it was sent', v_window));
    END IF;
    SELECT array_agg(x.user_id) INTO v_before FROM message_mentions x WHERE x.message_id = h.id;
    UPDATE messages x SET content = p_arguments ->> 'content', edited_at = date_trunc('milliseconds', now())
     WHERE x.id = h.id
    RETURNING x.edited_at INTO h.edited_at;
    SELECT array_agg(x.user_id ORDER BY x.user_id) INTO v_mentions FROM message_mentions x WHERE x.message_id = h.id;
    v_event := append_told(c, 'message_edited', p_actor, p_mutation_id,
        jsonb_build_object('message_id', h.id, 'actor', actor_json(p_actor), 'edited_at', rfc3339(h.edited_at)),
        jsonb_build_object('content', p_arguments ->> 'content', 'mentions', coalesce(to_jsonb(v_mentions), '[]')));
    o.conversation_id := c.id;
    o.events := jsonb_build_array(v_event);
    o.result := jsonb_build_object('message_id', h.id, 'seq', v_event -> 'seq', 'edited_at', rfc3339(h.edited_at));
    o.notices := mention_notices(c.id, h.id, h.seq, p_actor, array(
        SELECT x FROM unnest(v_mentions) x WHERE x <> ALL (coalesce(v_before, '{}'))));
    RETURN o;
END $$;
