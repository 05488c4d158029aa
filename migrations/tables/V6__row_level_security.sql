-- Row level security, forced, on every table that holds users' data.
--
-- Three roles (created before the first migration):
--   chat_owner   owns the tables and the rule sets; DDL only.
--   chat_app     one user's reads; the transaction sets app.user_id. Without a user the policies show nothing.
--   chat_writer  batches of mixed users and account operations; its INSERT policies check membership row by row.
-- A table's owner bypasses row level security unless it is FORCEd. The owner's policies exist for the SECURITY DEFINER
-- functions and for nothing else.

DO $$
DECLARE t text;
BEGIN
    FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'refinery_schema_history' LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
    END LOOP;
END $$;

-- chat_app: reads of one user.
GRANT SELECT ON users, sessions, user_blocks, conversations, conversation_members, conversation_bans,
    conversation_invites, conversation_join_requests, conversation_statistics, conversation_events, messages,
    message_mentions, message_edits, message_reactions, message_pins, thread_statistics, thread_followers,
    message_search TO chat_app;
GRANT INSERT ON spent_tickets TO chat_app;
GRANT SELECT (ticket_id) ON spent_tickets TO chat_app;

CREATE POLICY app_reads ON users FOR SELECT TO chat_app USING (app_user_id() IS NOT NULL);
CREATE POLICY app_reads ON sessions FOR SELECT TO chat_app USING (user_id = app_user_id());
CREATE POLICY app_spends ON spent_tickets FOR INSERT TO chat_app WITH CHECK (user_id = app_user_id());
CREATE POLICY app_reads ON spent_tickets FOR SELECT TO chat_app USING (user_id = app_user_id());
CREATE POLICY app_reads ON user_blocks FOR SELECT TO chat_app USING (user_id = app_user_id());
CREATE POLICY app_reads ON conversations FOR SELECT TO chat_app
    USING ((app_user_id() IS NOT NULL AND kind = 'public_room') OR id IN (SELECT app_conversations()));
CREATE POLICY app_reads ON conversation_members FOR SELECT TO chat_app
    USING (conversation_id IN (SELECT app_conversations()));
CREATE POLICY app_reads ON conversation_bans FOR SELECT TO chat_app USING (conversation_id IN (SELECT app_moderated()));
CREATE POLICY app_reads ON conversation_invites FOR SELECT TO chat_app
    USING (conversation_id IN (SELECT app_moderated()));
CREATE POLICY app_reads ON conversation_join_requests FOR SELECT TO chat_app
    USING (user_id = app_user_id() OR conversation_id IN (SELECT app_moderated()));
CREATE POLICY app_reads ON conversation_statistics FOR SELECT TO chat_app
    USING (EXISTS (SELECT FROM conversations c WHERE c.id = conversation_id));
CREATE POLICY app_reads ON conversation_events FOR SELECT TO chat_app
    USING (conversation_id IN (SELECT app_conversations()));
CREATE POLICY app_reads ON messages FOR SELECT TO chat_app USING (conversation_id IN (SELECT app_conversations()));
CREATE POLICY app_reads ON message_mentions FOR SELECT TO chat_app
    USING (conversation_id IN (SELECT app_conversations()));
CREATE POLICY app_reads ON message_edits FOR SELECT TO chat_app USING (conversation_id IN (SELECT app_conversations()));
CREATE POLICY app_reads ON message_reactions FOR SELECT TO chat_app
    USING (conversation_id IN (SELECT app_conversations()));
CREATE POLICY app_reads ON message_pins FOR SELECT TO chat_app USING (conversation_id IN (SELECT app_conversations()));
CREATE POLICY app_reads ON thread_statistics FOR SELECT TO chat_app
    USING (conversation_id IN (SELECT app_conversations()));
CREATE POLICY app_reads ON thread_followers FOR SELECT TO chat_app
    USING (conversation_id IN (SELECT app_conversations()));
CREATE POLICY app_reads ON message_search FOR SELECT TO chat_app
    USING (conversation_id IN (SELECT app_conversations()));

-- chat_writer, accounts. They run before anybody is signed in, hence as the writer.
GRANT SELECT, INSERT, UPDATE ON users, credentials, sessions, refresh_tokens TO chat_writer;
GRANT SELECT, DELETE ON spent_tickets, refresh_tokens TO chat_writer;
GRANT SELECT, INSERT, DELETE ON user_blocks TO chat_writer;
GRANT USAGE ON SEQUENCE user_ids, session_ids TO chat_writer;

CREATE POLICY writer_accounts ON users TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_accounts ON credentials TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_accounts ON sessions TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_accounts ON refresh_tokens TO chat_writer USING (true)
    WITH CHECK (EXISTS (SELECT FROM sessions s WHERE s.id = session_id AND s.user_id = refresh_tokens.user_id));
CREATE POLICY writer_sweeps ON spent_tickets TO chat_writer USING (expires_at < now());
CREATE POLICY writer_blocks ON user_blocks TO chat_writer USING (true) WITH CHECK (true);

-- chat_writer, conversations.
GRANT SELECT, INSERT ON conversations, conversation_events TO chat_writer;
GRANT UPDATE (last_seq, last_ordinal, owner_id, name, description, archived_at, slow_mode_s, member_limit)
    ON conversations TO chat_writer;
GRANT SELECT, INSERT, DELETE ON conversation_members, conversation_bans, conversation_restrictions,
    conversation_invites, conversation_join_requests, mutation_outcomes TO chat_writer;
GRANT UPDATE (role, read_seq, muted_until, profile_version) ON conversation_members TO chat_writer;
GRANT UPDATE (uses) ON conversation_invites TO chat_writer;
GRANT UPDATE (text) ON conversation_join_requests TO chat_writer;
GRANT SELECT, INSERT, UPDATE ON conversation_statistics TO chat_writer;
GRANT USAGE ON SEQUENCE conversation_numbers, message_ids TO chat_writer;

CREATE POLICY writer_looks_up ON conversations FOR SELECT TO chat_writer USING (true);
CREATE POLICY writer_creates ON conversations FOR INSERT TO chat_writer WITH CHECK (last_seq = 0);
CREATE POLICY writer_updates ON conversations FOR UPDATE TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_looks_up ON conversation_members FOR SELECT TO chat_writer USING (true);
CREATE POLICY writer_adds ON conversation_members FOR INSERT TO chat_writer WITH CHECK (NOT EXISTS (
    SELECT FROM conversation_bans b
     WHERE b.conversation_id = conversation_members.conversation_id AND b.user_id = conversation_members.user_id));
CREATE POLICY writer_updates ON conversation_members FOR UPDATE TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_removes ON conversation_members FOR DELETE TO chat_writer USING (true);
CREATE POLICY writer_moderates ON conversation_bans TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_restricts ON conversation_restrictions TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_invites ON conversation_invites TO chat_writer USING (true) WITH CHECK (EXISTS (
    SELECT FROM conversation_members m WHERE m.conversation_id = conversation_invites.conversation_id));
CREATE POLICY writer_asks ON conversation_join_requests TO chat_writer USING (true) WITH CHECK (NOT EXISTS (
    SELECT FROM conversation_members m
     WHERE m.conversation_id = conversation_join_requests.conversation_id
       AND m.user_id = conversation_join_requests.user_id));
CREATE POLICY writer_counts ON conversation_statistics TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_looks_up ON conversation_events FOR SELECT TO chat_writer USING (true);
CREATE POLICY writer_appends ON conversation_events FOR INSERT TO chat_writer WITH CHECK (
    seq > 0 AND EXISTS (SELECT FROM users u WHERE u.id = actor_id));
CREATE POLICY writer_remembers ON mutation_outcomes TO chat_writer USING (true) WITH CHECK (true);

-- chat_writer, messages. It looks up what it needs to authorise and to find a repeat. It cannot read what people wrote:
-- content is missing among the columns of messages and message_edits.
GRANT SELECT (conversation_id, seq, id, sender_id, parent_message_id, ordinal, created_at, edited_at, deleted_at,
    message_type, client_message_id) ON messages TO chat_writer;
GRANT INSERT ON messages TO chat_writer;
GRANT UPDATE (content, edited_at, deleted_at, system) ON messages TO chat_writer;
GRANT SELECT (message_id, number, conversation_id, written_at) ON message_edits TO chat_writer;
GRANT INSERT, DELETE ON message_edits TO chat_writer;
GRANT SELECT, INSERT, DELETE ON message_mentions, message_reactions, message_pins, thread_followers TO chat_writer;
GRANT UPDATE (read_seq) ON thread_followers TO chat_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON thread_statistics TO chat_writer;

CREATE POLICY writer_looks_up ON messages FOR SELECT TO chat_writer USING (true);
CREATE POLICY writer_sends ON messages FOR INSERT TO chat_writer WITH CHECK (EXISTS (
    SELECT FROM conversation_members m
     WHERE m.conversation_id = messages.conversation_id AND m.user_id = messages.sender_id
       AND m.role > 'read_only' AND (m.muted_until IS NULL OR m.muted_until <= now())));
CREATE POLICY writer_reports ON messages FOR INSERT TO chat_writer WITH CHECK (
    message_type = 'system' AND system IS NOT NULL AND parent_message_id IS NULL AND client_message_id IS NULL);
CREATE POLICY writer_changes ON messages FOR UPDATE TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_counts ON thread_statistics TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_looks_up ON message_mentions FOR SELECT TO chat_writer USING (true);
CREATE POLICY writer_removes ON message_mentions FOR DELETE TO chat_writer USING (true);
CREATE POLICY writer_looks_up ON message_edits FOR SELECT TO chat_writer USING (true);
CREATE POLICY writer_removes ON message_edits FOR DELETE TO chat_writer USING (true);
CREATE POLICY writer_looks_up ON message_reactions FOR SELECT TO chat_writer USING (true);
CREATE POLICY writer_removes ON message_reactions FOR DELETE TO chat_writer USING (true);
CREATE POLICY writer_looks_up ON message_pins FOR SELECT TO chat_writer USING (true);
CREATE POLICY writer_removes ON message_pins FOR DELETE TO chat_writer USING (true);
CREATE POLICY writer_looks_up ON thread_followers FOR SELECT TO chat_writer USING (true);
CREATE POLICY writer_removes ON thread_followers FOR DELETE TO chat_writer USING (true);
-- A user's row in a conversation can be inserted only while they are a member.
CREATE POLICY writer_records ON message_mentions FOR INSERT TO chat_writer WITH CHECK (EXISTS (
    SELECT FROM conversation_members m
     WHERE m.conversation_id = message_mentions.conversation_id AND m.user_id = message_mentions.user_id));
CREATE POLICY writer_reacts ON message_reactions FOR INSERT TO chat_writer WITH CHECK (EXISTS (
    SELECT FROM conversation_members m
     WHERE m.conversation_id = message_reactions.conversation_id AND m.user_id = message_reactions.user_id));
CREATE POLICY writer_pins ON message_pins FOR INSERT TO chat_writer WITH CHECK (EXISTS (
    SELECT FROM conversation_members m
     WHERE m.conversation_id = message_pins.conversation_id AND m.user_id = message_pins.pinned_by));
CREATE POLICY writer_follows ON thread_followers FOR INSERT TO chat_writer WITH CHECK (EXISTS (
    SELECT FROM conversation_members m
     WHERE m.conversation_id = thread_followers.conversation_id AND m.user_id = thread_followers.user_id));
CREATE POLICY writer_marks ON thread_followers FOR UPDATE TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_keeps ON message_edits FOR INSERT TO chat_writer WITH CHECK (EXISTS (
    SELECT FROM messages m
     WHERE m.id = message_edits.message_id AND m.conversation_id = message_edits.conversation_id));

-- chat_owner, for the SECURITY DEFINER functions. The writer cannot read texts, so the owner indexes them. The owner
-- also counts unread messages: the policies above would look up the user's conversations again for each count.
CREATE POLICY owner_resolves_membership ON conversation_members FOR SELECT TO chat_owner USING (true);
CREATE POLICY owner_resolves_membership ON conversations FOR SELECT TO chat_owner USING (true);
CREATE POLICY owner_resolves_blocks ON user_blocks FOR SELECT TO chat_owner USING (true);
CREATE POLICY owner_resolves_invites ON conversation_invites FOR SELECT TO chat_owner USING (true);
CREATE POLICY owner_indexes ON message_search TO chat_owner USING (true) WITH CHECK (true);
CREATE POLICY owner_indexes ON search_progress TO chat_owner USING (true) WITH CHECK (true);
CREATE POLICY owner_indexes ON messages FOR SELECT TO chat_owner USING (true);
