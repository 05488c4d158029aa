-- Removes what is stored of a person outside of the log: the profile, everything that signs in, lists, restrictions,
-- what waits, webhooks and bots. The row of the account stays, because the log names its number. It can be repeated.
-- Returns how many rows of each kind there were.
-- It needs the rights of the owner, in a transaction with app.data_rights.
-- Locks: the rows.

CREATE FUNCTION erase_account(p_user bigint) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    v_name   text := erased_name(p_user);
    v_old    text;
    v_table  text;
    v_column text;
    v_count  bigint;
    v_counts jsonb := '{}';
    v_hash   bytea;
BEGIN
    SELECT e.username INTO v_old FROM erasures e WHERE e.user_id = p_user;
    -- Somebody may have had this name before it was reserved.
    IF EXISTS (SELECT FROM users u WHERE lower(u.username) = v_name AND u.id <> p_user) THEN
        v_name := left(v_name, 40) || '-' || substr(md5(random()::text), 1, 8);
    END IF;
    UPDATE users u SET username = v_name, display_name = 'Deleted user', avatar_url = NULL, bio = NULL,
           is_active = false, receipts_private = true, group_invitations = 'nobody', muted_until = NULL,
           profile_version = u.profile_version + 1, announced_at = '-infinity',
           erased_at = coalesce(u.erased_at, now())
     WHERE u.id = p_user AND u.erased_at IS NULL;
    -- An exported copy goes from the store when nothing needs its content.
    FOR v_hash IN DELETE FROM data_exports x WHERE x.user_id = p_user RETURNING x.sha256 LOOP
        IF v_hash IS NOT NULL THEN
            PERFORM plan_release(v_hash);
        END IF;
    END LOOP;
    FOREACH v_column IN ARRAY ARRAY[
        'credentials.user_id', 'refresh_tokens.user_id', 'sessions.user_id', 'two_factor.user_id',
        'sign_in_challenges.user_id', 'spent_tickets.user_id', 'user_blocks.user_id', 'user_blocks.blocked_id',
        'conversation_bans.user_id', 'conversation_restrictions.user_id', 'conversation_join_requests.user_id',
        'unheard_requests.user_id', 'conversation_invitations.user_id', 'conversation_invitations.invited_by',
        'conversation_invites.created_by', 'stranger_additions.user_id', 'stranger_additions.added_by',
        'toggle_budgets.user_id', 'filter_hits.user_id', 'account_responses.user_id',
        'security_events.user_id', 'mutation_outcomes.actor_id', 'thread_followers.user_id', 'file_shares.user_id',
        'user_avatars.user_id', 'webhooks.owner_id', 'bots.owner_id',
        'message_mentions.user_id', 'jobs.owner_id'] LOOP
        v_table := split_part(v_column, '.', 1);
        EXECUTE format('DELETE FROM %I x WHERE x.%I = $1', v_table, split_part(v_column, '.', 2)) USING p_user;
        GET DIAGNOSTICS v_count = ROW_COUNT;
        -- Outcomes are a copy of the log for a day, and the erasure itself writes some.
        IF v_count > 0 AND v_table <> 'mutation_outcomes' THEN
            v_counts := v_counts || jsonb_build_object(v_table,
                v_count + coalesce((v_counts ->> v_table)::bigint, 0));
        END IF;
    END LOOP;
    DELETE FROM held_messages x WHERE x.sender_id = p_user AND NOT is_on_hold(x.conversation_id);
    GET DIAGNOSTICS v_count = ROW_COUNT;
    IF v_count > 0 THEN
        v_counts := v_counts || jsonb_build_object('held_messages', v_count);
    END IF;
    DELETE FROM file_usage x WHERE x.user_id = p_user AND NOT EXISTS (
        SELECT FROM files f WHERE f.uploader_id = p_user);
    -- What the detectors found about somebody else can name the person, as the account that was attacked.
    IF v_old IS NOT NULL THEN
        DELETE FROM security_events x WHERE strpos(lower(x.details::text), lower('"' || v_old || '"')) > 0;
        -- Texts of others that are no messages yet.
        UPDATE held_messages x SET content = without_name(x.content, v_old, p_user)
         WHERE x.content <> without_name(x.content, v_old, p_user);
        UPDATE conversation_join_requests x SET text = without_name(x.text, v_old, p_user)
         WHERE x.text <> without_name(x.text, v_old, p_user);
        UPDATE unheard_requests x SET text = without_name(x.text, v_old, p_user)
         WHERE x.text <> without_name(x.text, v_old, p_user);
    END IF;
    UPDATE conversation_bans x SET banned_by = NULL WHERE x.banned_by = p_user;
    -- What others did to the person. The rows are of the last day.
    UPDATE mutation_outcomes x SET outcome = without_person(x.outcome, p_user)
     WHERE strpos(x.outcome::text, '"id": ' || p_user) > 0;
    RETURN v_counts;
END $$;
