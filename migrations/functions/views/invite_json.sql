-- An invitation as the protocol shows it.

CREATE FUNCTION invite_json(i conversation_invites) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('code', i.code, 'conversation_id', conversation_text_id(i.conversation_id),
        'max_uses', i.max_uses, 'uses', i.uses, 'expires_at', rfc3339(i.expires_at), 'created_by', i.created_by,
        'created_at', rfc3339(i.created_at))
$$;
