-- The notice for users whom a message mentions, or NULL when it mentions only its sender.

CREATE FUNCTION mention_notices(
    p_conversation bigint, p_message bigint, p_seq bigint, p_sender bigint, p_users bigint[])
RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN cardinality(array_remove(p_users, p_sender)) > 0 THEN jsonb_build_array(jsonb_build_object(
        'users', array_remove(p_users, p_sender), 'kind', 'mention', 'payload', jsonb_build_object(
            'message_id', p_message, 'seq', p_seq, 'sender', actor_json(p_sender)))) END
$$;
