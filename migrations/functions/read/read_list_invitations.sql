-- The user's open invitations, the newest first.

CREATE FUNCTION read_list_invitations(p_arguments jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('invitations', coalesce(jsonb_agg(jsonb_build_object(
               'conversation_id', conversation_text_id(i.conversation_id), 'kind', i.kind, 'name', i.name,
               'description', i.description, 'invited_by', actor_json(i.invited_by),
               'created_at', rfc3339(i.created_at)) ORDER BY i.created_at DESC, i.conversation_id), '[]'))
      FROM app_invitations() i
$$;
