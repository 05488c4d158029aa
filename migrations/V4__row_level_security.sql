-- Row Level Security, forced, on every table that holds users' data.
--
-- Three roles (created before the first migration):
--   chat_owner   owns the schema; DDL only.
--   chat_app     one user's reads; the transaction sets app.user_id. With no user set, policies see nothing.
--   chat_writer  batches of mixed users and account operations; its INSERT policies check membership row by row.
-- A table's owner bypasses RLS unless it is FORCEd; the owner's SELECT policy on the member list exists for the
-- SECURITY DEFINER function below and for nothing else.

-- After COMMIT a SET LOCAL setting reads as '' and not NULL: both mean "nobody".
CREATE FUNCTION app_user_id() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS
    $$ SELECT nullif(current_setting('app.user_id', true), '')::bigint $$;

-- SECURITY DEFINER, since a policy on conversation_members that reads conversation_members would recurse.
CREATE FUNCTION app_conversations() RETURNS SETOF bigint LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = public, pg_temp AS
    $$ SELECT conversation_id FROM conversation_members WHERE user_id = app_user_id() $$;

-- Whether the user may look into a conversation; tells "not yours" from "not there" without showing anything of it.
CREATE FUNCTION app_access(p_conversation bigint) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = public, pg_temp AS
    $$ SELECT CASE
           WHEN EXISTS (SELECT FROM conversation_members
                         WHERE conversation_id = p_conversation AND user_id = app_user_id()) THEN 'member'
           WHEN EXISTS (SELECT FROM conversations WHERE id = p_conversation) THEN 'not_member'
           ELSE 'not_found' END $$;

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['users', 'credentials', 'sessions', 'refresh_tokens', 'spent_tickets', 'conversations',
        'conversation_members', 'conversation_bans', 'conversation_statistics', 'conversation_events', 'messages',
        'message_mentions', 'thread_statistics']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
    END LOOP;
END $$;

GRANT USAGE ON SCHEMA public TO chat_app, chat_writer;

-- chat_app: reads of one user.
GRANT SELECT ON users, conversations, conversation_members, conversation_statistics, conversation_events, messages,
    message_mentions, thread_statistics, sessions TO chat_app;
GRANT INSERT ON spent_tickets TO chat_app;
GRANT SELECT (ticket_id) ON spent_tickets TO chat_app;

CREATE POLICY app_reads ON users FOR SELECT TO chat_app USING (app_user_id() IS NOT NULL);
CREATE POLICY app_reads ON sessions FOR SELECT TO chat_app USING (user_id = app_user_id());
CREATE POLICY app_spends ON spent_tickets FOR INSERT TO chat_app WITH CHECK (user_id = app_user_id());
CREATE POLICY app_reads ON spent_tickets FOR SELECT TO chat_app USING (user_id = app_user_id());
CREATE POLICY app_reads ON conversations FOR SELECT TO chat_app
    USING ((app_user_id() IS NOT NULL AND kind = 'public_room') OR id IN (SELECT app_conversations()));
CREATE POLICY app_reads ON conversation_members FOR SELECT TO chat_app
    USING (conversation_id IN (SELECT app_conversations()));
CREATE POLICY app_reads ON conversation_statistics FOR SELECT TO chat_app
    USING (EXISTS (SELECT FROM conversations c WHERE c.id = conversation_id));
CREATE POLICY app_reads ON conversation_events FOR SELECT TO chat_app
    USING (conversation_id IN (SELECT app_conversations()));
CREATE POLICY app_reads ON messages FOR SELECT TO chat_app
    USING (conversation_id IN (SELECT app_conversations()));
CREATE POLICY app_reads ON message_mentions FOR SELECT TO chat_app
    USING (conversation_id IN (SELECT app_conversations()));
CREATE POLICY app_reads ON thread_statistics FOR SELECT TO chat_app
    USING (conversation_id IN (SELECT app_conversations()));

-- chat_writer: may look up what it needs to authorise and to find a repeat, but not read what people wrote.
GRANT SELECT ON conversations, conversation_members, conversation_bans, conversation_statistics, conversation_events,
    message_mentions, thread_statistics TO chat_writer;
GRANT SELECT (conversation_id, seq, id, sender_id, parent_message_id, created_at, deleted_at, client_message_id)
    ON messages TO chat_writer;
GRANT INSERT ON conversations, conversation_members, conversation_bans, conversation_statistics, conversation_events,
    messages, message_mentions, thread_statistics TO chat_writer;
GRANT UPDATE (last_seq, owner_id, name, description, archived_at) ON conversations TO chat_writer;
GRANT UPDATE (role, read_seq, muted_until) ON conversation_members TO chat_writer;
GRANT UPDATE ON conversation_statistics, thread_statistics TO chat_writer;
GRANT DELETE ON conversation_members, conversation_bans TO chat_writer;
GRANT USAGE ON SEQUENCE conversation_numbers, message_ids, user_ids, session_ids TO chat_writer;
-- Account operations run before anybody is signed in, hence as the writer.
GRANT SELECT, INSERT, UPDATE ON users, credentials, sessions, refresh_tokens TO chat_writer;
GRANT SELECT, DELETE ON spent_tickets, refresh_tokens TO chat_writer;

CREATE POLICY writer_accounts ON users TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_accounts ON credentials TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_accounts ON sessions TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_accounts ON refresh_tokens TO chat_writer USING (true)
    WITH CHECK (EXISTS (SELECT FROM sessions s WHERE s.id = session_id AND s.user_id = refresh_tokens.user_id));
CREATE POLICY writer_sweeps ON spent_tickets TO chat_writer USING (expires_at < now());

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
CREATE POLICY writer_counts ON conversation_statistics TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_counts ON thread_statistics TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_looks_up ON messages FOR SELECT TO chat_writer USING (true);
CREATE POLICY writer_sends ON messages FOR INSERT TO chat_writer WITH CHECK (EXISTS (
    SELECT FROM conversation_members m
     WHERE m.conversation_id = messages.conversation_id AND m.user_id = messages.sender_id
       AND m.role > 'read_only' AND (m.muted_until IS NULL OR m.muted_until <= now())));
CREATE POLICY writer_looks_up ON conversation_events FOR SELECT TO chat_writer USING (true);
CREATE POLICY writer_appends ON conversation_events FOR INSERT TO chat_writer WITH CHECK (
    seq > 0 AND EXISTS (SELECT FROM users u WHERE u.id = actor_id));
CREATE POLICY writer_looks_up ON message_mentions FOR SELECT TO chat_writer USING (true);
CREATE POLICY writer_records ON message_mentions FOR INSERT TO chat_writer WITH CHECK (EXISTS (
    SELECT FROM conversation_members m
     WHERE m.conversation_id = message_mentions.conversation_id AND m.user_id = message_mentions.user_id));

CREATE POLICY owner_resolves_membership ON conversation_members FOR SELECT TO chat_owner USING (true);
CREATE POLICY owner_resolves_membership ON conversations FOR SELECT TO chat_owner USING (true);
REVOKE ALL ON FUNCTION app_conversations(), app_access(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app_conversations(), app_access(bigint) TO chat_app;
