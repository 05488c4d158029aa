-- The check of a file has ended. p.arguments: {file_id, state, and if known reason (a sentence), failure (the same for
-- programs), media_type, size (if readers get other content than was uploaded), width, height, duration, blurhash,
-- animated}. Its uploader acts, who need not be a member any longer. The conversation learns of it if a message has the
-- file, its uploader in any case. The log keeps no names of files.
-- Locks: the conversation's row, which apply_mutations holds, the file's row, then those of file_usage.

CREATE FUNCTION mutate_settle_file(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    f files;
    v_messages bigint[];
BEGIN
    o.result := '{}';
    UPDATE files x SET state = (p.arguments ->> 'state')::file_state, reason = left(p.arguments ->> 'reason', 500),
           failure = nullif(p.arguments -> 'failure', 'null'),
           media_type = p.arguments ->> 'media_type', width = (p.arguments ->> 'width')::integer,
           height = (p.arguments ->> 'height')::integer, duration = (p.arguments ->> 'duration')::double precision,
           blurhash = p.arguments ->> 'blurhash', animated = coalesce((p.arguments ->> 'animated')::boolean, false),
           size = coalesce((p.arguments ->> 'size')::bigint, x.size),
           received = coalesce((p.arguments ->> 'size')::bigint, x.received),
           extra = coalesce((SELECT sum(v.size) FROM file_variants v WHERE v.file_id = x.id), 0)
     WHERE x.id = (p.arguments -> 'file_id')::bigint AND x.conversation_id = c.id AND x.state = 'scanning'
    RETURNING * INTO f;
    IF NOT FOUND THEN
        RETURN o; -- it is gone, or was settled before
    END IF;
    IF f.state = 'ready' AND p.arguments ->> 'size' IS NOT NULL THEN
        -- Readers get something else, so the upload is still there.
        INSERT INTO jobs (kind, subject) VALUES ('remove_upload', f.id::text) ON CONFLICT DO NOTHING;
    END IF;
    SELECT array_agg(x.message_id ORDER BY x.message_id) INTO v_messages FROM message_files x WHERE x.file_id = f.id;
    IF v_messages IS NOT NULL THEN
        o := append_event(o, c, p, 'file_updated', jsonb_build_object('file_id', f.id, 'message_ids', v_messages),
            jsonb_build_object('file', file_json(f)));
        o.seq := NULL;
        PERFORM reindex_messages(c.id, v_messages);
    END IF;
    o.notices := jsonb_build_array(jsonb_build_object('users', jsonb_build_array(f.uploader_id),
        'kind', 'file_updated', 'payload', jsonb_strip_nulls(jsonb_build_object(
            'conversation_id', conversation_text_id(c.id), 'file_id', f.id, 'file', file_json(f),
            'reason', f.reason, 'failure', f.failure))));
    RETURN o;
END $$;
