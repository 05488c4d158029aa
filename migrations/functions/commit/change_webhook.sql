-- Changes a webhook; null leaves a field as it is. Administrators of its conversation can only switch it off. A webhook
-- that is enabled again goes on where it stopped, and tries what is pending at once. p_row begins the audit row, which
-- has the origin of an address and not its path, because paths often hold a secret. Returns whether there is such a
-- webhook.
-- Locks: the webhook's row, then the end of the audit trail.

CREATE FUNCTION change_webhook(
    p_user bigint, p_webhook bigint, p_url text, p_events text[], p_ordered boolean, p_active boolean, p_row jsonb)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    w webhooks;
BEGIN
    SELECT * INTO w FROM locked_webhook(p_user, p_webhook);
    IF NOT FOUND THEN
        RETURN false;
    ELSIF w.owner_id <> p_user
          AND (p_url IS NOT NULL OR p_events IS NOT NULL OR p_ordered IS NOT NULL OR coalesce(p_active, true)) THEN
        PERFORM refuse('forbidden', 'Only the owner of a webhook can change it. You can switch it off or delete it.');
    ELSIF p_url IS NULL AND p_events IS NULL AND p_ordered IS NULL AND p_active IS NULL THEN
        RETURN true;
    END IF;
    UPDATE webhooks x
       SET version = x.version + 1, url = coalesce(p_url, x.url), events = coalesce(p_events, x.events),
           is_ordered = coalesce(p_ordered, x.is_ordered),
           disabled_at = CASE WHEN p_active THEN NULL WHEN NOT p_active THEN now() ELSE x.disabled_at END,
           disabled_reason = CASE WHEN p_active THEN NULL WHEN NOT p_active THEN 'switched off'
                                  ELSE x.disabled_reason END,
           failures = CASE WHEN p_active OR p_url IS NOT NULL THEN 0 ELSE x.failures END,
           paused_until = CASE WHEN p_active OR p_url IS NOT NULL THEN NULL ELSE x.paused_until END
     WHERE x.id = p_webhook;
    IF p_active OR p_url IS NOT NULL THEN
        UPDATE webhook_deliveries d SET next_at = now() WHERE d.webhook_id = p_webhook AND d.state = 'pending';
    END IF;
    PERFORM append_audit(jsonb_build_array(p_row || jsonb_build_object(
        'conversation_id', w.conversation_id, 'target_type', 'webhook', 'target_id', p_webhook,
        'details', jsonb_build_object(
            'before', jsonb_build_object('origin', url_origin(w.url), 'events', w.events, 'ordered', w.is_ordered,
                'active', w.disabled_at IS NULL),
            'after', jsonb_strip_nulls(jsonb_build_object('origin', url_origin(p_url), 'events', p_events,
                'ordered', p_ordered, 'active', p_active))))));
    RETURN true;
END $$;
