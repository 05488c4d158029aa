-- Deletes the next messages of an erased person, 25 at most, in an archived conversation too. The keys that their
-- clients gave go as well, and those of messages that were deleted before. The result has `more`: whether to go on.
-- A key that begins with U&'\0001' is never a client's.
-- Locks: as tombstone_message; then the row of erasures.

CREATE FUNCTION mutate_erase_messages(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    h message_head;
    v_count bigint := 0;
BEGIN
    PERFORM set_config('app.erasing', 'on', true);
    FOR h IN
        -- MATERIALIZED: the messages of the person are found by the index of keys, not by reading the conversation.
        WITH own AS MATERIALIZED (
            SELECT x.seq FROM messages x
             WHERE x.conversation_id = c.id AND x.sender_id = p.actor_id AND x.client_message_id IS NOT NULL
               AND NOT starts_with(x.client_message_id, E'\x01' || 'erased-')),
        next AS (SELECT own.seq FROM own ORDER BY own.seq LIMIT 25)
        SELECT x.id, x.seq, x.sender_id, x.parent_message_id, x.created_at, x.edited_at, x.deleted_at, x.message_type
          FROM next JOIN messages x ON x.conversation_id = c.id AND x.seq = next.seq ORDER BY x.seq
    LOOP
        v_count := v_count + 1;
        IF h.deleted_at IS NULL THEN
            o := tombstone_message(o, c, p, h);
        END IF;
        UPDATE messages x SET client_message_id = E'\x01' || 'erased-' || h.id WHERE x.id = h.id;
    END LOOP;
    PERFORM set_config('app.erasing', '', true);
    PERFORM count_erased(p.actor_id, 'messages', v_count);
    o.seq := NULL;
    o.result := jsonb_build_object('more', v_count = 25);
    RETURN o;
END $$;
