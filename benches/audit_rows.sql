-- Fills the audit trail through append_audit, as the server does, 1,000 rows a transaction. For measuring
-- `chat-server audit verify`, never in a database that somebody needs: rows of the trail cannot be removed.
--
--   PGOPTIONS="-c bench.rows=1000000" psql -h DATA_DIR/postgres -U veza -f benches/audit_rows.sql veza_chat
--
-- tests/server/audit_chain.rs does the same and measures. The connection must be a superuser's.

DO $$
DECLARE
    v_set name;
    v_rows jsonb;
BEGIN
    SELECT n.nspname INTO STRICT v_set FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
     WHERE p.proname = 'append_audit' ORDER BY n.oid DESC LIMIT 1;
    PERFORM set_config('search_path', v_set || ', public', false);
    FOR batch IN 1 .. current_setting('bench.rows')::bigint / 1000 LOOP
        SELECT jsonb_agg(jsonb_build_object(
                   'user_id', n, 'action', 'set_role', 'target_type', 'user', 'target_id', n + 1,
                   'conversation_id', 4 * n + 2, 'session_id', n, 'ip_address', '203.0.113.' || n % 256,
                   'device', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
                   'details', jsonb_build_object('before', jsonb_build_object('role', 'member'),
                                                 'after', jsonb_build_object('role', 'moderator'))))
          INTO v_rows FROM generate_series(batch * 1000, batch * 1000 + 999) n;
        PERFORM append_audit(v_rows);
        COMMIT;
    END LOOP;
END $$;
