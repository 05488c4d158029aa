//! The tables that a dump is read into. They are in a schema of their own, which goes when the import ends, and not in
//! the write-ahead log: an import that was cut short reads the dump again.
//!
//! Names: `s_…` has the rows of the dump, `p_…` what they become. `src` is the generation of a row's table: 1 without a
//! suffix, 2 `_enhanced`, 3 `_secure`; of rooms also 4 for `conversations` and 5 for `dm_conversations`, of members and
//! messages 4 for those of `conversations`. Exports of other servers are of the third generation: users, reactions and
//! files of 1, the others of 4. `no` is the order in the dump.
//!
//! Rows of such exports have ids of 2^62 and more, which no row keeps, and a `label` for people. `slot` is the key of a
//! message where the id is none. `mentions` has the users of the marks (U+0002) in its text.

/// Removes what an earlier import has left, and makes the tables.
pub const CREATE: &str = "
DROP SCHEMA IF EXISTS import_staging CASCADE;
CREATE SCHEMA import_staging;
CREATE UNLOGGED TABLE import_staging.s_users (
    no bigint GENERATED ALWAYS AS IDENTITY, src smallint, line bigint, id bigint, username text, clean_name text,
    clean_display text, email text, password_hash text, role text, avatar_url text, bio text, is_active boolean,
    is_banned boolean, two_factor boolean, is_clean boolean, created_at timestamptz, updated_at timestamptz,
    label text, reason text);
CREATE UNLOGGED TABLE import_staging.s_rooms (
    no bigint GENERATED ALWAYS AS IDENTITY, src smallint, line bigint, id text, kind text, name text,
    description text, owner text, user1 bigint, user2 bigint, is_public boolean, is_private boolean,
    is_archived boolean, is_blocked boolean, blocked_by bigint, max_members bigint, created_at timestamptz,
    updated_at timestamptz, team text, target text, reason text);
CREATE UNLOGGED TABLE import_staging.s_members (
    no bigint GENERATED ALWAYS AS IDENTITY, src smallint, line bigint, room text, user_id text, role text,
    joined_at timestamptz, last_read bigint, has_marker boolean, read_at timestamptz, reason text);
CREATE UNLOGGED TABLE import_staging.s_messages (
    no bigint GENERATED ALWAYS AS IDENTITY, src smallint, line bigint, id bigint, kind text, author text,
    author_name text, recipient text, recipient_name text, room text, content text, content_type text, parent bigint,
    status text, is_pinned boolean, is_edited boolean, original text, created_at timestamptz, updated_at timestamptz,
    edited_at timestamptz, slot text, label text, mentions text, has_files boolean, reason text);
CREATE UNLOGGED TABLE import_staging.s_reactions (
    no bigint GENERATED ALWAYS AS IDENTITY, src smallint, line bigint, message_id bigint, user_id text, emoji text,
    created_at timestamptz, label text, reason text);
CREATE UNLOGGED TABLE import_staging.s_mentions (
    no bigint GENERATED ALWAYS AS IDENTITY, src smallint, line bigint, message_id bigint, user_id text, reason text);
CREATE UNLOGGED TABLE import_staging.s_history (
    no bigint GENERATED ALWAYS AS IDENTITY, src smallint, line bigint, id bigint, message_id bigint, content text,
    edited_at timestamptz, reason text);
CREATE UNLOGGED TABLE import_staging.s_blocks (
    no bigint GENERATED ALWAYS AS IDENTITY, src smallint, line bigint, blocker text, blocked text,
    created_at timestamptz, reason text);
CREATE UNLOGGED TABLE import_staging.s_actions (
    no bigint GENERATED ALWAYS AS IDENTITY, src smallint, line bigint, id bigint, target text, moderator text,
    action text, note text, room text, expires_at timestamptz, is_active boolean, created_at timestamptz,
    reason text);
CREATE UNLOGGED TABLE import_staging.s_files (
    no bigint GENERATED ALWAYS AS IDENTITY, src smallint, line bigint, id bigint, uuid text, uploader text, name text,
    original_name text, path text, size bigint, media_type text, checksum text, message_id bigint,
    place text, label text, created_at timestamptz, reason text);
CREATE UNLOGGED TABLE import_staging.s_file_refs (src smallint, message_id bigint, key text);
CREATE UNLOGGED TABLE import_staging.quarantine (staged text, src smallint, line bigint, id text, reason text);
CREATE UNLOGGED TABLE import_staging.mended (staged text, src smallint, line bigint, id text, what text);
CREATE UNLOGGED TABLE import_staging.run (source text);";
/// $1 the name of the old database.
pub const BEGIN_RUN: &str = "INSERT INTO import_staging.run VALUES ($1)";

/// When all rows are read: what the planner needs.
pub const ANALYZE: &str = "
CREATE INDEX ON import_staging.s_messages (no);
ANALYZE import_staging.s_users, import_staging.s_rooms, import_staging.s_members, import_staging.s_messages,
    import_staging.s_reactions, import_staging.s_mentions, import_staging.s_history, import_staging.s_file_refs;";

/// Removes the tables.
pub const DROP: &str = "DROP SCHEMA IF EXISTS import_staging CASCADE";

/// COPY of rows into one of the tables.
#[must_use]
pub fn copy_into(table: &str, columns: &[&str]) -> String {
    format!("COPY import_staging.{table} ({}) FROM STDIN", columns.join(", "))
}

/// For the owner's session: time limits would end a long import. $1 the schema of the rule set.
pub const SESSION: &str = "SELECT set_config('search_path', 'import_staging, ' || $1 || ', public, pg_temp', false), \
    set_config('app.rules', $1, false), set_config('statement_timeout', '0', false), \
    set_config('idle_in_transaction_session_timeout', '0', false), set_config('work_mem', '128MB', false), \
    set_config('TimeZone', 'UTC', false)";

/// The tables of the server that an import reads and writes. Their row level security binds their owner too, because no
/// statement of the server may see everything. An import does, so it is suspended for the owner until the end of the
/// same transaction. Nobody else ever sees the tables without it.
const TABLES: [&str; 22] = [
    "users",
    "credentials",
    "user_blocks",
    "conversations",
    "conversation_members",
    "conversation_bans",
    "conversation_statistics",
    "conversation_events",
    "conversation_partitions",
    "messages",
    "message_mentions",
    "message_edits",
    "message_reactions",
    "message_pins",
    "message_files",
    "thread_statistics",
    "thread_followers",
    "files",
    "file_usage",
    "jobs",
    "import_ids",
    "import_runs",
];

fn for_each_table(change: &str) -> String {
    TABLES.iter().fold(String::new(), |text, table| text + "ALTER TABLE public." + table + " " + change + ";")
}

/// At the beginning of a transaction of an import.
#[must_use]
pub fn suspend_row_security() -> String {
    for_each_table("NO FORCE ROW LEVEL SECURITY")
}

/// At its end.
#[must_use]
pub fn resume_row_security() -> String {
    for_each_table("FORCE ROW LEVEL SECURITY")
}
