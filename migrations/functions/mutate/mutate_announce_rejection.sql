-- Sends the author of a held text that a moderator has rejected it. The decision is committed before
-- (storage/sql/filter.rs), so this changes nothing, and repeating it does no harm.
-- p.arguments: held_id.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_announce_rejection(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    h held_messages;
BEGIN
    SELECT * INTO h FROM held_messages x
     WHERE x.id = (p.arguments -> 'held_id')::bigint AND x.conversation_id = c.id AND x.sender_id = p.actor_id
       AND x.state = 'rejected' AND NOT x.sent;
    IF FOUND THEN
        o.notices := jsonb_build_array(jsonb_build_object(
            'users', ARRAY[p.actor_id], 'kind', 'message_rejected', 'payload', jsonb_build_object(
                'code', 'filtered', 'details', jsonb_build_object('rule', h.rule), 'content', h.content,
                -- Keys of the server's own begin with U+0001.
                'client_message_id', CASE WHEN h.client_message_id NOT LIKE E'\x01%' THEN h.client_message_id END,
                'message_id', h.edited_message_id, 'decided_at', rfc3339(h.decided_at))));
    END IF;
    o.result := '{}';
    RETURN o;
END $$;
