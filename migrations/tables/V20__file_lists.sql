-- Lists of files: few messages have files, so a search for them needs indexes without the others.

CREATE INDEX message_search_files_by_place ON message_search (conversation_id, created_at, message_id) WHERE has_file;
CREATE INDEX message_search_files_by_sender ON message_search (sender_id, created_at, message_id) WHERE has_file;
CREATE INDEX message_search_files_by_time ON message_search (created_at, message_id) WHERE has_file;

-- Why a file failed, for programs: {reason, and what was found}.
ALTER TABLE files ADD COLUMN failure jsonb
    CHECK (jsonb_typeof(failure) = 'object' AND octet_length(failure::text) <= 2000);
GRANT UPDATE (failure) ON files TO chat_writer;

-- The files that a held edit keeps; null if it removes none.
ALTER TABLE held_messages ADD COLUMN kept_files bigint[];

-- Whose work a job is, if it is a user's: nobody's jobs take all places.
ALTER TABLE jobs ADD COLUMN owner_id bigint;
