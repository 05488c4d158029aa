-- Deletes a webhook that the user may manage, with its deliveries. p_row begins the audit row. Returns whether there
-- was one.
-- Locks: the webhook's row, then the end of the audit trail.

CREATE FUNCTION delete_webhook(p_user bigint, p_webhook bigint, p_row jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    w webhooks;
BEGIN
    SELECT * INTO w FROM locked_webhook(p_user, p_webhook);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM webhooks x WHERE x.id = p_webhook;
    PERFORM append_audit(jsonb_build_array(p_row || jsonb_build_object(
        'conversation_id', w.conversation_id, 'target_type', 'webhook', 'target_id', p_webhook,
        'details', jsonb_build_object('before', jsonb_build_object(
            'origin', url_origin(w.url), 'owner_id', w.owner_id)))));
    RETURN true;
END $$;
