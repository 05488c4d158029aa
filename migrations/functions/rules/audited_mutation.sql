-- The audit row of a mutation that was executed, for append_audit, without its sender's session, address and device;
-- NULL if it changed nothing that is audited.

CREATE FUNCTION audited_mutation(p mutation, p_conversation bigint, p_before jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_changed jsonb := audit_difference(p_before, audit_state(p, p_conversation));
    v_user    bigint := (p.arguments -> 'user_id')::bigint;
    v_type    text;
BEGIN
    IF v_changed IS NULL THEN
        RETURN NULL;
    END IF;
    v_type := CASE WHEN v_user IS NOT NULL THEN 'user'
                   WHEN p.arguments ? 'message_id' THEN 'message'
                   WHEN p.arguments ? 'file_id' THEN 'file'
                   -- A user who joins, leaves, asks or decides, or whom the content filter mutes.
                   WHEN p.kind = 'filter_text' OR v_changed -> 'after' ?| '{role,requested,invited}' THEN 'user'
                   ELSE 'conversation' END;
    RETURN jsonb_build_object(
        'user_id', p.actor_id, 'action', p.kind, 'conversation_id', p_conversation,
        'target_type', v_type,
        'target_id', CASE v_type WHEN 'user' THEN coalesce(v_user, p.actor_id)
                                 WHEN 'message' THEN (p.arguments -> 'message_id')::bigint
                                 WHEN 'file' THEN (p.arguments -> 'file_id')::bigint
                                 ELSE p_conversation END,
        'reason', p.arguments ->> 'reason', 'details', v_changed);
END $$;
