-- Gives a webhook of the user a new secret. The old one signs too for p_keep_s seconds. p_row begins the audit row.
-- Returns whether the user may manage such a webhook; only its owner can rotate its secret.
-- Locks: the webhook's row, then the end of the audit trail.

CREATE FUNCTION rotate_webhook_secret(
    p_user bigint, p_webhook bigint, p_key text, p_sealed bytea, p_keep_s bigint, p_row jsonb)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    w webhooks;
BEGIN
    SELECT * INTO w FROM locked_webhook(p_user, p_webhook);
    IF NOT FOUND THEN
        RETURN false;
    ELSIF w.owner_id <> p_user THEN
        PERFORM refuse('forbidden', 'Only the owner of a webhook can rotate its secret.');
    END IF;
    UPDATE webhooks x
       SET previous_key_id = x.key_id, previous_sealed = x.sealed,
           previous_until = now() + make_interval(secs => p_keep_s), key_id = p_key, sealed = p_sealed
     WHERE x.id = p_webhook;
    PERFORM append_audit(jsonb_build_array(p_row || jsonb_build_object(
        'conversation_id', w.conversation_id, 'target_type', 'webhook', 'target_id', p_webhook)));
    RETURN true;
END $$;
