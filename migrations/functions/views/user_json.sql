-- A user as the protocol shows them beside a message or an event.

CREATE FUNCTION user_json(u users) RETURNS jsonb LANGUAGE sql STABLE AS
    $$ SELECT jsonb_build_object('id', u.id, 'username', u.username, 'display_name', u.display_name) $$;
