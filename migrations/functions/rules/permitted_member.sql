-- The permission of each mutation: the role that its actor needs. Returns the actor's membership. What depends on the
-- message or on the other user is in mutate_<kind>. docs/permissions.md has the same as a table.

CREATE FUNCTION permitted_member(c conversations, p mutation) RETURNS conversation_members LANGUAGE plpgsql AS $$
DECLARE
    m conversation_members;
BEGIN
    CASE p.kind
        -- Users who are not members too; without a membership the result is NULL.
        WHEN 'create_conversation', 'request_to_join' THEN
            PERFORM refuse_muted_user(p.actor_id);
            SELECT * INTO m FROM conversation_members x WHERE x.conversation_id = c.id AND x.user_id = p.actor_id;
            RETURN m;
        WHEN 'join_conversation', 'join_by_invite', 'cancel_join_request', 'accept_invitation', 'decline_invitation',
             'mark_read', 'announce_profile', 'block_user', 'unblock_user', 'filter_text', 'announce_rejection',
             'settle_file', 'erase_messages', 'erase_mention', 'erase_reaction', 'clear_history' THEN
            SELECT * INTO m FROM conversation_members x WHERE x.conversation_id = c.id AND x.user_id = p.actor_id;
            RETURN m;
        -- Every member, in an archived conversation and while muted too.
        WHEN 'leave_conversation', 'delete_message', 'follow_thread', 'mark_thread_read' THEN
            RETURN acting_member(c, p.actor_id);
        -- Members who may send messages.
        WHEN 'edit_message', 'pin_message', 'add_reaction', 'remove_reaction' THEN
            RETURN sending_member(c, p.actor_id);
        WHEN 'invite_member' THEN
            IF c.kind = 'direct' THEN
                PERFORM acting_member(c, p.actor_id);
                PERFORM refuse('forbidden', 'Nobody can be added to a direct conversation. Create a group instead.');
            END IF;
            RETURN sending_member(c, p.actor_id);
        -- In a group every member who may send messages can change the name and the description.
        WHEN 'update_conversation' THEN
            IF c.kind = 'group' AND NOT p.arguments ?| '{slow_mode_s,member_limit,retention_days}' THEN
                RETURN sending_member(c, p.actor_id);
            END IF;
            PERFORM refuse_muted_user(p.actor_id);
            RETURN moderating_member(c, p.actor_id, 'admin');
        WHEN 'remove_member', 'mute_member', 'ban_member', 'unban_member', 'revoke_invite', 'decide_join_request' THEN
            RETURN moderating_member(c, p.actor_id, 'moderator');
        WHEN 'create_invite' THEN
            PERFORM refuse_muted_user(p.actor_id);
            RETURN moderating_member(c, p.actor_id, 'moderator');
        WHEN 'set_role' THEN
            PERFORM refuse_muted_user(p.actor_id);
            RETURN moderating_member(c, p.actor_id, 'admin');
        WHEN 'archive_conversation', 'transfer_ownership' THEN
            PERFORM refuse_muted_user(p.actor_id);
            RETURN moderating_member(c, p.actor_id, 'owner');
        ELSE
            RAISE EXCEPTION 'rules/permitted_member.sql has no permission for %', p.kind;
    END CASE;
END $$;
