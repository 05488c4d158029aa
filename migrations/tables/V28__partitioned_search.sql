-- message_search is partitioned by the same ranges of message ids as messages (V27), since it is several times as
-- large: otherwise retention would free little. The table so far becomes the first partition, without being read. Its
-- primary key begins with the id, so all keys stay, and a new partition gets its indexes from the partitioned table.
-- Locks: message_search, ACCESS EXCLUSIVE, for milliseconds.

SET LOCAL lock_timeout = '10s';
LOCK TABLE message_search IN ACCESS EXCLUSIVE MODE;

ALTER TABLE message_search RENAME TO message_search_0;
ALTER INDEX message_search_pkey RENAME TO message_search_0_pkey;
ALTER INDEX message_search_by_words RENAME TO message_search_0_by_words;
ALTER INDEX message_search_by_place RENAME TO message_search_0_by_place;
ALTER INDEX message_search_by_sender RENAME TO message_search_0_by_sender;
ALTER INDEX message_search_by_time RENAME TO message_search_0_by_time;
ALTER INDEX message_search_files_by_place RENAME TO message_search_0_files_by_place;
ALTER INDEX message_search_files_by_sender RENAME TO message_search_0_files_by_sender;
ALTER INDEX message_search_files_by_time RENAME TO message_search_0_files_by_time;
ALTER INDEX IF EXISTS message_search_by_text RENAME TO message_search_0_by_text;

CREATE TABLE message_search (LIKE message_search_0 INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
    PARTITION BY RANGE (message_id);
ALTER TABLE message_search ATTACH PARTITION message_search_0 FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
-- These take the equal indexes of the first partition, and build none.
ALTER TABLE message_search ADD PRIMARY KEY (message_id);
CREATE INDEX message_search_by_words ON message_search USING gin (words);
CREATE INDEX message_search_by_place ON message_search (conversation_id, created_at, message_id);
CREATE INDEX message_search_by_sender ON message_search (sender_id, created_at, message_id);
CREATE INDEX message_search_by_time ON message_search (created_at, message_id);
CREATE INDEX message_search_files_by_place ON message_search (conversation_id, created_at, message_id) WHERE has_file;
CREATE INDEX message_search_files_by_sender ON message_search (sender_id, created_at, message_id) WHERE has_file;
CREATE INDEX message_search_files_by_time ON message_search (created_at, message_id) WHERE has_file;
DO $$
BEGIN
    IF to_regclass('message_search_0_by_text') IS NOT NULL THEN
        CREATE INDEX message_search_by_text ON message_search USING gin (text gin_trgm_ops);
    END IF;
END $$;

-- Rights and policies, as V6 and V25 give them.
REVOKE ALL ON message_search_0 FROM chat_app, chat_writer;
DROP POLICY app_reads ON message_search_0;
DROP POLICY owner_indexes ON message_search_0;
DROP POLICY owner_serves_data_rights ON message_search_0;
ALTER TABLE message_search ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT ON message_search TO chat_app;
CREATE POLICY app_reads ON message_search FOR SELECT TO chat_app
    USING (conversation_id IN (SELECT app_conversations()));
CREATE POLICY owner_indexes ON message_search TO chat_owner USING (true) WITH CHECK (true);
CREATE POLICY owner_serves_data_rights ON message_search TO chat_owner
    USING (serves_data_rights()) WITH CHECK (serves_data_rights());
