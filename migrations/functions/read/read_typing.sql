-- Whether others may see that the user types: only of members who may send. hidden_from has the members who must not.

CREATE FUNCTION read_typing(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_conversation bigint := require_sending(p_arguments);
BEGIN
    RETURN jsonb_build_object('hidden_from', app_members_blocked_with(v_conversation));
END $$;
