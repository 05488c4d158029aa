-- Creates a webhook, whose cursors begin at the present end of each log. p_row begins its audit row. Returns its id.
-- A webhook of a group or room needs an administrator of it; p_conversation is null for all conversations of the user.
-- Locks: the user's row, so that the webhooks are counted; then the end of the audit trail.

CREATE FUNCTION create_webhook(
    p_webhook bigint, p_user bigint, p_conversation bigint, p_url text, p_events text[], p_ordered boolean,
    p_key text, p_sealed bytea, p_row jsonb)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    c conversations;
    m conversation_members;
BEGIN
    PERFORM FROM users u WHERE u.id = p_user FOR NO KEY UPDATE;
    IF p_conversation IS NOT NULL THEN
        SELECT x.* INTO c FROM conversations x WHERE x.id = p_conversation;
        SELECT x.* INTO m FROM conversation_members x WHERE x.conversation_id = c.id AND x.user_id = p_user;
        IF m IS NULL THEN
            PERFORM refuse_outsider(c);
        ELSIF c.kind <> 'direct' AND m.role < 'admin' THEN
            PERFORM refuse('forbidden', 'Only the owner and the admins of a conversation can create its webhooks.');
        ELSIF (SELECT count(*) FROM webhooks w WHERE w.conversation_id = p_conversation) >= 20 THEN
            PERFORM refuse('conflict', 'A conversation can have 20 webhooks. Delete one of them.');
        END IF;
    END IF;
    IF (SELECT count(*) FROM webhooks w WHERE w.owner_id = p_user) >= 20 THEN
        PERFORM refuse('conflict', 'You can have 20 webhooks. Delete one of them.');
    END IF;
    INSERT INTO webhooks (id, owner_id, conversation_id, url, events, is_ordered, key_id, sealed)
    VALUES (p_webhook, p_user, p_conversation, p_url, p_events, p_ordered, p_key, p_sealed);
    INSERT INTO webhook_cursors (webhook_id, conversation_id, seq)
    SELECT p_webhook, x.id, x.last_seq
      FROM conversation_members y JOIN conversations x ON x.id = y.conversation_id
     WHERE y.user_id = p_user AND (p_conversation IS NULL OR x.id = p_conversation);
    PERFORM append_audit(jsonb_build_array(p_row || jsonb_build_object(
        'conversation_id', p_conversation, 'target_type', 'webhook', 'target_id', p_webhook,
        'details', jsonb_build_object('after', jsonb_build_object('origin', url_origin(p_url), 'events', p_events)))));
END $$;
