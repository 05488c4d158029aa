-- A row of shown_messages as the protocol writes it: a field without a value is absent, except for two that are null.
-- In PL/pgSQL, because PostgreSQL cannot inline it: a call in SQL would cost 50 µs for each message.
-- needs: shown_messages

CREATE FUNCTION message_json(s shown_messages) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN '{"parent_message_id": null, "edited_at": null}' || jsonb_strip_nulls(to_jsonb(s) - 'system')
        || jsonb_build_object('conversation_id', conversation_text_id(s.conversation_id))
        || CASE WHEN s.system IS NULL THEN '{}' ELSE jsonb_build_object('system', s.system) END;
END $$;
