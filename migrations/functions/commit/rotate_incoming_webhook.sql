-- Gives an incoming webhook that the user may manage a new token; the old one ends. p_row begins the audit row. Returns
-- whether there is one.
-- Locks: the webhook's row, then the end of the audit trail.

CREATE FUNCTION rotate_incoming_webhook(p_user bigint, p_webhook bigint, p_token_hash bytea, p_row jsonb)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    w incoming_webhooks;
BEGIN
    SELECT * INTO w FROM managed_incoming_webhook(p_user, p_webhook);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE incoming_webhooks x SET token_hash = p_token_hash WHERE x.id = p_webhook;
    PERFORM append_audit(jsonb_build_array(p_row || jsonb_build_object(
        'conversation_id', w.conversation_id, 'target_type', 'incoming_webhook', 'target_id', p_webhook)));
    RETURN true;
END $$;
