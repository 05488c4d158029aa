-- Replaces the text of the actor's own message, and removes files from it: all but p.arguments.attachments, if that is
-- given. With p.arguments.was_held it may name files that have gone while a moderator decided. The trigger keep_edits
-- keeps the earlier text, 50 of them at most.
-- The log stores no text: a replay reads the present one. An edit to what the message has changes nothing.
-- Locks: the conversation's row, which apply_mutations holds; the rows of removed files, then those of file_usage.

CREATE FUNCTION mutate_edit_message(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    h message_head := message_in(c, p);
    v_window   bigint := (p.arguments -> 'window_s')::bigint;
    v_before   bigint[];
    v_mentions bigint[];
    v_files    bigint[];
    v_kept     bigint[];
BEGIN
    PERFORM refuse_deleted(h);
    IF h.sender_id <> p.actor_id THEN
        PERFORM refuse('forbidden', 'Only the author can edit a message.');
    END IF;
    SELECT coalesce(array_agg(x.file_id ORDER BY x.position), '{}') INTO v_files
      FROM message_files x WHERE x.message_id = h.id;
    v_kept := CASE WHEN p.arguments ? 'attachments'
                   THEN array(SELECT x::bigint FROM jsonb_array_elements_text(p.arguments -> 'attachments') x)
                   ELSE v_files END;
    IF (p.arguments -> 'was_held')::boolean THEN
        v_kept := array(SELECT x FROM unnest(v_kept) x WHERE x = ANY (v_files));
    END IF;
    IF NOT v_kept <@ v_files THEN
        PERFORM refuse('bad_request', 'data.attachments: An edit can remove files. Send others with a new message.');
    ELSIF p.arguments ->> 'content' = '' AND v_kept = '{}' THEN
        PERFORM refuse('bad_request', 'data.content: Nothing would be left. Delete the message.');
    ELSIF v_files <@ v_kept AND has_text(h.id, p.arguments ->> 'content') THEN
        o.seq := c.last_seq;
        o.result := jsonb_build_object('message_id', h.id, 'edited_at', rfc3339(h.edited_at));
        RETURN o;
    ELSIF (SELECT count(*) FROM message_edits e WHERE e.message_id = h.id) >= 50 THEN
        PERFORM refuse('conflict', 'A message can be edited 50 times. Write a new one.');
    ELSIF v_window > 0 AND h.created_at < now() - make_interval(secs => v_window) THEN
        PERFORM refuse('forbidden', format('A message can be edited for %s seconds after it was sent.', v_window));
    END IF;
    DELETE FROM message_files x WHERE x.message_id = h.id AND x.file_id <> ALL (v_kept);
    PERFORM remove_unused_files(array(SELECT x FROM unnest(v_files) x WHERE x <> ALL (v_kept)));
    SELECT array_agg(x.user_id) INTO v_before FROM message_mentions x WHERE x.message_id = h.id;
    UPDATE messages x SET content = p.arguments ->> 'content', edited_at = date_trunc('milliseconds', now())
     WHERE x.id = h.id
    RETURNING x.edited_at INTO h.edited_at;
    SELECT array_agg(x.user_id ORDER BY x.user_id) INTO v_mentions FROM message_mentions x WHERE x.message_id = h.id;
    o := append_event(o, c, p, 'message_edited',
        jsonb_build_object('message_id', h.id, 'actor', actor_json(p.actor_id), 'edited_at', rfc3339(h.edited_at)),
        jsonb_build_object('content', p.arguments ->> 'content', 'mentions', coalesce(to_jsonb(v_mentions), '[]'),
                           'attachments', coalesce(attachments_json(h.id), '[]')));
    o.result := jsonb_build_object('message_id', h.id, 'edited_at', rfc3339(h.edited_at));
    o.notices := mention_notices(c.id, h.id, h.seq, p.actor_id, array(
        SELECT x FROM unnest(v_mentions) x WHERE x <> ALL (coalesce(v_before, '{}'))));
    RETURN o;
END $$;
