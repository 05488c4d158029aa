-- Replaces the name of an erased person in a text of somebody else, and in its earlier texts. The log stores no text.
-- Locks: the conversation's row, which apply_mutations holds; the row of erasures.

CREATE FUNCTION mutate_erase_mention(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    h message_head := message_in(c, p);
    v_text     text := erased_text(h.id, p.actor_id);
    v_mentions bigint[];
BEGIN
    o.result := '{}';
    IF h.deleted_at IS NOT NULL OR v_text IS NULL OR has_text(h.id, v_text) THEN
        RETURN o;
    END IF;
    PERFORM set_config('app.erasing', 'on', true);
    UPDATE messages x SET content = v_text, edited_at = date_trunc('milliseconds', now()) WHERE x.id = h.id
    RETURNING x.edited_at INTO h.edited_at;
    PERFORM set_config('app.erasing', '', true);
    DELETE FROM message_mentions x WHERE x.message_id = h.id AND x.user_id = p.actor_id;
    SELECT array_agg(x.user_id ORDER BY x.user_id) INTO v_mentions FROM message_mentions x WHERE x.message_id = h.id;
    o := append_event(o, c, p, 'message_edited',
        jsonb_build_object('message_id', h.id, 'actor', actor_json(p.actor_id), 'edited_at', rfc3339(h.edited_at)),
        jsonb_build_object('content', v_text, 'mentions', coalesce(to_jsonb(v_mentions), '[]'),
                           'attachments', coalesce(attachments_json(h.id), '[]')));
    o.seq := NULL;
    PERFORM count_erased(p.actor_id, 'mentions', 1);
    RETURN o;
END $$;
