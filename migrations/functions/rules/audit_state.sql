-- The state that a mutation may change, as the audit trail shows it. apply_mutations compares it before and after the
-- mutation. NULL: the kind is not audited; docs/audit.md gives the reasons.
-- An invitation's code lets its bearer in, so only the beginning of its SHA-256 appears.

CREATE FUNCTION audit_state(p mutation, p_conversation bigint) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_user    bigint := coalesce((p.arguments -> 'user_id')::bigint, p.actor_id);
    v_message bigint := (p.arguments -> 'message_id')::bigint;
    v_state   jsonb;
BEGIN
    CASE p.kind
        WHEN 'add_reaction', 'remove_reaction', 'mark_read', 'mark_thread_read', 'follow_thread', 'edit_message',
             'announce_profile', 'announce_rejection' THEN
            RETURN NULL;
        WHEN 'settle_file' THEN
            -- Only viruses; other files are their messages'.
            RETURN (SELECT jsonb_build_object('file_state', x.state) FROM files x
                     WHERE x.id = (p.arguments -> 'file_id')::bigint AND p.arguments ->> 'state' = 'infected');
        WHEN 'delete_message' THEN
            -- A deletion by the author is in the conversation's log.
            RETURN (SELECT jsonb_build_object('deleted', x.deleted_at IS NOT NULL, 'author', x.sender_id)
                      FROM messages x WHERE x.id = v_message AND x.conversation_id = p_conversation
                       AND (x.sender_id <> p.actor_id OR x.message_type = 'system'));
        WHEN 'pin_message' THEN
            RETURN jsonb_build_object('pinned', EXISTS (SELECT FROM message_pins x
                WHERE x.conversation_id = p_conversation AND x.message_id = v_message));
        WHEN 'block_user', 'unblock_user' THEN
            RETURN jsonb_build_object('blocked', EXISTS (SELECT FROM user_blocks x
                WHERE x.user_id = p.actor_id AND x.blocked_id = v_user));
        WHEN 'create_invite', 'revoke_invite' THEN
            SELECT jsonb_build_object('max_uses', x.max_uses, 'uses', x.uses, 'expires_at', rfc3339(x.expires_at),
                       'created_by', x.created_by, 'code', left(encode(sha256(convert_to(x.code, 'UTF8')), 'hex'), 16))
              INTO v_state FROM conversation_invites x
             WHERE x.conversation_id = p_conversation
               AND CASE p.kind WHEN 'create_invite' THEN x.mutation_id = p.id ELSE x.code = p.arguments ->> 'code' END;
            RETURN jsonb_build_object('invitation', v_state);
        ELSE
            SELECT jsonb_build_object('kind', x.kind, 'name', x.name, 'description', x.description,
                       'owner_id', x.owner_id, 'slow_mode_s', x.slow_mode_s, 'member_limit', x.member_limit,
                       'retention_days', x.retention_days,
                       'archived', x.archived_at IS NOT NULL)
              INTO v_state FROM conversations x WHERE x.id = p_conversation;
            IF v_state IS NULL THEN
                RETURN '{}'; -- it is being created
            ELSIF p.kind = 'create_conversation' THEN
                RETURN v_state || jsonb_build_object('members', (
                    SELECT jsonb_agg(x.user_id ORDER BY x.user_id) FROM conversation_members x
                     WHERE x.conversation_id = p_conversation),
                    'invited', (SELECT jsonb_agg(x.user_id ORDER BY x.user_id) FROM conversation_invitations x
                                 WHERE x.conversation_id = p_conversation));
            ELSIF p.kind IN ('update_conversation', 'archive_conversation') THEN
                RETURN v_state;
            END IF;
            -- What can happen to a user in a conversation.
            RETURN v_state || jsonb_build_object(
                'role', (SELECT x.role FROM conversation_members x
                          WHERE x.conversation_id = p_conversation AND x.user_id = v_user),
                'muted_until', (SELECT rfc3339(x.muted_until) FROM conversation_members x
                                 WHERE x.conversation_id = p_conversation AND x.user_id = v_user),
                'banned', EXISTS (SELECT FROM conversation_bans x
                                   WHERE x.conversation_id = p_conversation AND x.user_id = v_user),
                'requested', EXISTS (SELECT FROM conversation_join_requests x
                                      WHERE x.conversation_id = p_conversation AND x.user_id = v_user),
                'invited', EXISTS (SELECT FROM conversation_invitations x
                                    WHERE x.conversation_id = p_conversation AND x.user_id = v_user));
    END CASE;
END $$;
