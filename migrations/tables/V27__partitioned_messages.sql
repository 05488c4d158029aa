-- messages is partitioned by ranges of ids. The table so far becomes the first partition, as it is, and without being
-- read: it has every id that there can be.
--
-- Ranges begin at multiples of 10,000,000,000, and the last one has no end. The job of retention begins the next one
-- and moves the sequence there (open_message_partition). So a partition holds the messages of a period, and retention
-- drops it whole, which frees its disk at once. Without retention for the whole server, nothing begins a second range.
--
-- Invariants:
-- - ids rise with seq in each conversation from the second range on: the sequence gives single numbers (CACHE 1), under
--   the lock of the conversation. So the partitions of a conversation follow each other like its log;
-- - (conversation_id, seq) is unique in each partition by its primary key, and across them by that lock;
-- - nobody has rights to a partition: each statement names the partitioned table, whose policies apply.
-- Locks: messages and message_edits, ACCESS EXCLUSIVE, for milliseconds.

SET LOCAL lock_timeout = '10s';
-- Before the lock: commits take an id first, and the table then.
ALTER SEQUENCE message_ids CACHE 1;
LOCK TABLE messages, message_edits IN ACCESS EXCLUSIVE MODE;

-- The rule sets that are installed, also those of earlier versions, have triggers on the table and a view of it. Both
-- would stay with the first partition.
CREATE TEMPORARY TABLE moved ON COMMIT DROP AS
SELECT 1 AS step, pg_get_triggerdef(t.oid) AS statement FROM pg_trigger t
 WHERE t.tgrelid = 'messages'::regclass AND NOT t.tgisinternal
UNION ALL
SELECT DISTINCT 2, format('CREATE OR REPLACE VIEW %s WITH (security_invoker = true) AS %s', v.oid::regclass,
                          pg_get_viewdef(v.oid))
  FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class
 WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
   AND d.refobjid = 'messages'::regclass
UNION ALL
SELECT 0, format('DROP TRIGGER %I ON messages_0', t.tgname) FROM pg_trigger t
 WHERE t.tgrelid = 'messages'::regclass AND NOT t.tgisinternal;

ALTER TABLE messages RENAME TO messages_0;
ALTER INDEX messages_pkey RENAME TO messages_0_pkey;
ALTER INDEX messages_id_key RENAME TO messages_0_id_key;
ALTER INDEX messages_dedupe_key RENAME TO messages_0_dedupe_key;
ALTER INDEX messages_by_parent RENAME TO messages_0_by_parent;
ALTER INDEX messages_deleted RENAME TO messages_0_deleted;
ALTER INDEX messages_deleted_replies RENAME TO messages_0_deleted_replies;

CREATE TABLE messages (LIKE messages_0 INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY RANGE (id);
CREATE UNIQUE INDEX messages_id_key ON messages (id);
-- The other indexes belong to the partitions (make_message_partition).

-- Which ranges were begun, and when. The first one has all messages from before.
CREATE TABLE message_partitions (
    first_id  bigint      PRIMARY KEY CHECK (first_id % 10000000000 = 0),
    opened_at timestamptz NOT NULL DEFAULT now(),
    -- When the next range was begun. Transactions that ran then may have written later.
    closed_at timestamptz,
    -- When retention decided to drop its partition. The row goes when nothing of it is left.
    dropped_at timestamptz
);
-- The first message of each conversation in each range but the first. Pages of a history read the partitions that this
-- table names, instead of all. A trigger writes it (note_ranges).
CREATE TABLE conversation_partitions (
    conversation_id bigint NOT NULL,
    first_seq       bigint NOT NULL,
    -- The beginning of the range.
    first_id        bigint NOT NULL,
    -- How many messages the conversation had before; see messages.
    ordinal_before  bigint NOT NULL,
    PRIMARY KEY (conversation_id, first_seq),
    UNIQUE (conversation_id, first_id)
);
INSERT INTO message_partitions (first_id, opened_at) VALUES (0, '-infinity');
ALTER TABLE message_partitions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE conversation_partitions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT ON message_partitions TO chat_writer;
GRANT SELECT, INSERT ON conversation_partitions TO chat_writer;
CREATE POLICY owner_looks_up ON message_partitions FOR SELECT TO chat_owner USING (true);
CREATE POLICY writer_looks_up ON message_partitions FOR SELECT TO chat_writer USING (true);
CREATE POLICY owner_looks_up ON conversation_partitions FOR SELECT TO chat_owner USING (true);
CREATE POLICY writer_looks_up ON conversation_partitions FOR SELECT TO chat_writer USING (true);
CREATE POLICY owner_serves_data_rights ON message_partitions TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY owner_serves_data_rights ON conversation_partitions TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY writer_notes ON conversation_partitions FOR INSERT TO chat_writer WITH CHECK (true);

DO $$
DECLARE
    v_statement text;
BEGIN
    FOR v_statement IN SELECT statement FROM moved WHERE step = 0 LOOP
        EXECUTE v_statement;
    END LOOP;
    ALTER TABLE messages ATTACH PARTITION messages_0 FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
    FOR v_statement IN SELECT statement FROM moved WHERE step > 0 ORDER BY step LOOP
        EXECUTE v_statement;
    END LOOP;
END $$;

-- Rights and policies, as V6 gives them.
REVOKE ALL ON messages_0 FROM chat_app, chat_writer;
DROP POLICY app_reads ON messages_0;
DROP POLICY owner_indexes ON messages_0;
DROP POLICY owner_serves_data_rights ON messages_0;
DROP POLICY writer_looks_up ON messages_0;
DROP POLICY writer_sends ON messages_0;
DROP POLICY writer_reports ON messages_0;
DROP POLICY writer_changes ON messages_0;
DROP POLICY writer_keeps ON message_edits;
ALTER TABLE messages ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT ON messages TO chat_app;
GRANT SELECT (conversation_id, seq, id, sender_id, parent_message_id, ordinal, created_at, edited_at, deleted_at,
    message_type, client_message_id) ON messages TO chat_writer;
GRANT INSERT ON messages TO chat_writer;
GRANT UPDATE (content, edited_at, deleted_at, system, client_message_id) ON messages TO chat_writer;
CREATE POLICY app_reads ON messages FOR SELECT TO chat_app USING (conversation_id IN (SELECT app_conversations()));
CREATE POLICY owner_indexes ON messages FOR SELECT TO chat_owner USING (true);
CREATE POLICY owner_serves_data_rights ON messages TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
CREATE POLICY writer_looks_up ON messages FOR SELECT TO chat_writer USING (true);
CREATE POLICY writer_sends ON messages FOR INSERT TO chat_writer WITH CHECK (EXISTS (
    SELECT FROM conversation_members m
     WHERE m.conversation_id = messages.conversation_id AND m.user_id = messages.sender_id
       AND m.role > 'read_only' AND (m.muted_until IS NULL OR m.muted_until <= now())));
CREATE POLICY writer_reports ON messages FOR INSERT TO chat_writer WITH CHECK (
    message_type = 'system' AND system IS NOT NULL AND parent_message_id IS NULL AND client_message_id IS NULL);
CREATE POLICY writer_changes ON messages FOR UPDATE TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_keeps ON message_edits FOR INSERT TO chat_writer WITH CHECK (EXISTS (
    SELECT FROM messages m
     WHERE m.id = message_edits.message_id AND m.conversation_id = message_edits.conversation_id));

-- What still depends on the first partition alone would not see the others.
DO $$
DECLARE
    v_left text;
BEGIN
    SELECT string_agg(DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid), ', ') INTO v_left FROM pg_depend d
     WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = 'messages_0'::regclass
       AND (d.classid IN ('pg_rewrite'::regclass, 'pg_policy'::regclass)
            -- Those for each row are copies of the partitioned table's.
            OR EXISTS (SELECT FROM pg_trigger t
                        WHERE d.classid = 'pg_trigger'::regclass AND t.oid = d.objid AND t.tgparentid = 0));
    IF v_left IS NOT NULL THEN
        RAISE EXCEPTION 'these use the first partition of messages alone: %', v_left;
    END IF;
END $$;

-- Notes a conversation's first message in each range. It is here and not in a rule set, so that servers of every
-- version note it: a page would skip the messages of a range that is not noted.
-- Locks: the conversations' rows of conversation_partitions, in the order of their ids.
CREATE FUNCTION note_ranges() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_second bigint := (SELECT x.first_id FROM message_partitions x WHERE x.first_id > 0 ORDER BY x.first_id LIMIT 1);
BEGIN
    -- The first range needs no rows, and most servers have no other.
    IF v_second IS NOT NULL THEN
        INSERT INTO conversation_partitions (conversation_id, first_seq, first_id, ordinal_before)
        SELECT n.conversation_id, min(n.seq), r.first_id,
               min(n.ordinal - CASE WHEN n.message_type = 'system' THEN 0 ELSE 1 END)
          FROM new_messages n
          JOIN (SELECT x.first_id, lead(x.first_id) OVER (ORDER BY x.first_id) AS next_id FROM message_partitions x) r
            ON n.id >= r.first_id AND (n.id < r.next_id OR r.next_id IS NULL)
         WHERE n.id >= v_second
         GROUP BY n.conversation_id, r.first_id ORDER BY 1, 2
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_ranges AFTER INSERT ON messages REFERENCING NEW TABLE AS new_messages
    FOR EACH STATEMENT EXECUTE FUNCTION note_ranges();
