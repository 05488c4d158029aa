-- Gives a webhook of the user a new secret. The old one signs too for p_keep_s seconds. p_row begins the audit row.
-- Returns whether the user has such a webhook.
-- Locks: the webhook's row, then the end of the audit trail.

CREATE FUNCTION rotate_webhook_secret(
    p_user bigint, p_webhook bigint, p_key text, p_sealed bytea, p_keep_s bigint, p_row jsonb)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_conversation bigint;
BEGIN
    UPDATE webhooks w
       SET previous_key_id = w.key_id, previous_sealed = w.sealed,
           previous_until = now() + make_interval(secs => p_keep_s), key_id = p_key, sealed = p_sealed
     WHERE w.id = p_webhook AND w.owner_id = p_user
    RETURNING w.conversation_id INTO v_conversation;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM append_audit(jsonb_build_array(p_row || jsonb_build_object(
        'conversation_id', v_conversation, 'target_type', 'webhook', 'target_id', p_webhook)));
    RETURN true;
END $$;
